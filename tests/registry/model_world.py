"""Servers, clients and a registry in virtual time, and what must hold whatever happens to them.

Driven by `test_model`. The model is a few sentences:

- a server that could reach the registry for `RECOVER` seconds, and that nobody harmed meanwhile,
  stands in it, with exactly the endpoints that it registered;
- a client that could follow it for `FOLLOW` seconds more knows that server;
- a client that saw a server standing never has an empty set while that server lives;
- after `QUIET` seconds store, clients and servers agree, and nothing is doubted any more.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Coroutine
from typing import Any

import anyio

from meshkit.discovery import RegistrationState, Watch
from meshkit.endpoint import Endpoint
from meshkit.errors import RegistryAuthError, RegistryUnavailable
from meshkit.events import EndpointsChanged, Event, TaskCrashed
from meshkit.registry.layouts import MeshkitLayout
from meshkit.registry.memory import MemoryStore
from meshkit.registry.registrar import Registration
from meshkit.registry.registry import Registry
from meshkit.tasks import Supervisor
from meshkit.testing import VirtualClockLoop
from tests.registry.tasks.fakes import FaultyStore, down

SERVICE = "hello"
TTL = 9.0
RECOVER = TTL / 3 + 1.0  # the promise, in seconds
FOLLOW = 2.0  # a wait of the watcher (at most 1 s), and a list
QUIET = 60.0  # the longest time to the next list is 36 s, a doubt is held for TTL + 5


class Process:
    """A registry of its own, as one process has it."""

    def __init__(self, world: World, store: Any, seed: int) -> None:
        self.supervisor = Supervisor(self.emit)
        self.registry = Registry(
            store,
            MeshkitLayout(),
            ttl=TTL,
            emit=self.emit,
            supervisor=self.supervisor,
            rng=random.Random(seed),
            clock=world.loop.time,
        )
        self.world = world
        world.run(self.supervisor.open())

    def emit(self, event: Event) -> None:
        if isinstance(event, TaskCrashed):
            self.world.violations.append(f"a task crashed: {event.error!r}")


class Server(Process):
    """A process with endpoints, over a link of its own."""

    def __init__(self, world: World, number: int) -> None:
        self.link = FaultyStore(world.store)
        self.registrations: dict[str, Registration | None] = {}  # None: asked for, by name
        self.is_hurt_since = -math.inf  # when it was last hindered or harmed
        super().__init__(world, self.link, number)

    def register(self, name: str) -> None:
        """Announce an endpoint, as soon as that can be done."""
        self.registrations[name] = None
        self.world.start(self._register(name))

    async def _register(self, name: str) -> None:
        endpoint = Endpoint(service=SERVICE, id=name, address=f"{name}:50051")
        try:
            registration = await self.registry.register([endpoint], timeout=1.0, required=False)
        except RegistryAuthError:  # told, so it is not tried again
            del self.registrations[name]
        else:
            self.registrations[name] = registration

    def withdraw(self, number: int) -> None:
        """Leave with one of the endpoints, if it is registered."""
        name = list(self.registrations)[number % len(self.registrations)]
        if (registration := self.registrations[name]) is not None:
            del self.registrations[name]
            self.world.start(registration.withdraw())


class Client(Process):
    """A process that watches the service; tells the world of each set."""

    def __init__(self, world: World, number: int) -> None:
        super().__init__(world, world.store, number)
        self.seen: set[str] = set()  # endpoints that it knew while they stood
        self._held = self.registry.watch(SERVICE)
        self.watch: Watch = world.run(self._enter())

    async def _enter(self) -> Watch:
        return self._held.__enter__()

    def emit(self, event: Event) -> None:
        super().emit(event)
        if isinstance(event, EndpointsChanged):
            self.world.check_set(self)

    @property
    def known(self) -> set[str] | None:
        """The endpoints by name; None before the first answer."""
        endpoints = self.watch.latest.value.endpoints
        return None if endpoints is None else set(endpoints.by_id)

    async def leave(self) -> None:
        """Watch no more."""
        self._held.__exit__(None, None, None)


class World:
    """All of it, and the time."""

    def __init__(self) -> None:
        self.loop = VirtualClockLoop()
        self.store = MemoryStore("memory://model", clock=self.loop.time)
        self.servers: list[Server] = []
        self.clients: list[Client] = []
        self.jobs: set[asyncio.Task[object]] = set()
        self.is_down = False  # the store itself, for everybody
        self.names = 0
        self.violations: list[str] = []

    def run(self, main: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(main)

    def start(self, main: Coroutine[Any, Any, object]) -> None:
        """Let something happen that takes its time."""
        job = self.loop.create_task(main)
        self.jobs.add(job)
        job.add_done_callback(self.jobs.discard)

    def new_name(self) -> str:
        self.names += 1
        return f"e{self.names}"

    def key(self, name: str) -> str:
        return MeshkitLayout().prefix("default", SERVICE) + name

    def tidy(self) -> None:
        """Who wrote keys by hand deletes those whose owners are gone: no lease does it for him."""
        living = {self.key(name) for server in self.servers for name in server.registrations}
        by_hand = {key for key, entry in self.store.entries().items() if not entry.lease}
        self.store.erase(*by_hand - living)

    # -- what happens to servers

    def hurt(self, *servers: Server) -> None:
        """From now on they need time to recover."""
        for server in servers:
            server.is_hurt_since = self.loop.time()

    def kill(self, server: Server) -> None:
        """As `kill -9` does: nothing is withdrawn, its lease lives on."""
        self.servers.remove(server)
        for client in self.clients:
            client.seen -= server.registrations.keys()
        self.run(server.supervisor.aclose())
        self.tidy()

    def cut_link(self, server: Server, fault: object) -> None:
        """Nobody else can know that it lives."""
        server.link.faults["*"] = fault
        for client in self.clients:
            client.seen -= server.registrations.keys()

    # -- what must hold

    def standing(self) -> set[str]:
        """What stands in the store, by name."""
        prefix = self.key("")
        return {key.removeprefix(prefix) for key in self.store.entries()}

    def pass_time(self, seconds: float) -> None:
        """Let time pass, and look at everybody from time to time."""
        end = self.loop.time() + seconds
        while (now := self.loop.time()) < end:
            self.run(anyio.sleep(min(0.25, end - now)))
            for server in self.servers:
                if self.is_down or server.link.faults:
                    self.hurt(server)
            self.check()

    def check(self) -> None:
        """Everybody who was left alone stands, and is known."""
        assert not self.violations, self.violations
        standing = self.standing()
        for server in self.servers:
            left_alone = self.loop.time() - server.is_hurt_since
            if left_alone > RECOVER:
                missing = server.registrations.keys() - standing
                assert not missing, f"{missing} missing after {left_alone:.2f} s"
            for client in self.clients:
                if left_alone > RECOVER + FOLLOW:
                    unknown = server.registrations.keys() - (client.known or set())
                    assert not unknown, f"{unknown} unknown after {left_alone:.2f} s"
                if not server.link.faults:
                    client.seen |= server.registrations.keys() & standing & (client.known or set())

    def check_set(self, client: Client) -> None:
        """A client without endpoints never saw one that lives."""
        if not client.known:
            living = {name for server in self.servers for name in server.registrations}
            if wronged := client.seen & living:
                self.violations.append(f"a client has nobody, but {wronged} live")

    def calm_down(self) -> None:
        """End all faults, wait, and see that all agree."""
        self.heal()
        for server in self.servers:
            server.link.faults.clear()
        self.hurt(*self.servers)
        self.tidy()
        self.pass_time(QUIET)
        assert not self.jobs, self.jobs
        wanted = {name for server in self.servers for name in server.registrations}
        assert self.standing() == wanted, f"{self.standing()} stand, not {wanted}"
        for client in self.clients:
            # Where there is nobody, those of whom no deletion told are kept: they may well live.
            doubted = client.watch.unconfirmed
            assert client.known == wanted or (not wanted and len(client.known) <= doubted), (
                f"{client.known} are known, {doubted} of them doubted, not {wanted}"
            )
        for server in self.servers:
            for registration in filter(None, server.registrations.values()):
                assert registration.state is RegistrationState.ANNOUNCED

    def heal(self) -> None:
        self.is_down = False
        self.store.heal()

    def close(self) -> None:
        """End everything; no task is left."""
        self.heal()
        for client in self.clients:
            self.run(client.leave())
        for process in (*self.clients, *self.servers):
            self.run(process.registry.aclose())
            self.run(process.supervisor.aclose())
        left = asyncio.all_tasks(self.loop)
        self.loop.close()
        assert not left, left


LINK_FAULTS = {"refused": down, "hangs": "hang", "answers are lost": "late"}
STORE_FAULTS = {
    "cut": lambda store: store.cut(),
    "other error": lambda store: store.cut(lambda: RegistryUnavailable("no leader")),
    "token expired": lambda store: store.expire_token(),
    "pause": lambda store: store.pause(),
    "mute": lambda store: store.mute(),
    "delay": lambda store: store.delay(0.6),
}
