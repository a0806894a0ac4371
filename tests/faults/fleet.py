"""The processes of one scenario: an etcd, servers and clients; nothing of it is left afterwards."""

from __future__ import annotations

import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.faults.journal import Call, Happening
from tests.faults.program import Program, wait_until
from tests.faults.registry import SERVICE, Registry, Setup

__all__ = ["Fleet", "Size"]

_SETTLE: Final = 60.0  # seconds


@dataclass(frozen=True, kw_only=True)
class Size:
    """How big a scenario is. Times are seconds.

    Attributes:
        servers: how many.
        clients: how many processes.
        rate: unary calls per second of each client.
        streams: streams at a time of each client.
        stream_seconds: how long one is.
        deadline: of calls, beyond their work.
        ttl: of all leases.
        grace: of the servers.
        distance: seconds that a message takes between clients and servers.
        seconds: how long lasts what the scenario does (an outage, a freeze).
        crowd: how many endpoints come at once.
        ails: what is wrong with the first server: "slow", "fails", or "" for nothing.
    """

    servers: int = 5
    clients: int = 2
    rate: float = 100.0
    streams: int = 2
    stream_seconds: float = 3.0
    deadline: float = 5.0
    ttl: float = 5.0
    grace: float = 30.0
    distance: float = 0.0
    seconds: float = 5.0
    crowd: int = 2000
    ails: str = ""


class Fleet:
    """The processes of one scenario, running for the length of a block."""

    def __init__(self, size: Size, setup: Setup | None = None) -> None:
        self.size = size
        self.registry = Registry(setup or Setup())
        self.servers: list[Program] = []
        self.clients: list[Program] = []
        self.programs: list[Program] = []  # all that ever ran
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with self._stack:
            folder = tempfile.TemporaryDirectory(prefix="meshkit-faults-")
            self.folder = Path(self._stack.enter_context(folder))
            self._stack.enter_context(self.registry)
            self.servers = [self.start_server(f"s{i}") for i in range(self.size.servers)]
            for server in self.servers:
                server.wait_ready()
            self.clients = [self._start_client(f"c{i}") for i in range(self.size.clients)]
            for client in self.clients:
                client.wait_ready()
            if not self.registry.setup.late:
                wait_until("all clients know all servers", self.is_settled, _SETTLE)
            self._stack = self._stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    # ---- processes

    def start_server(self, name: str, port: str = "0") -> Program:
        """Another server, which is not ready yet."""
        size = self.size
        return self._start(
            *(name, "server", "--port", port),
            *("--grace", f"{size.grace}", "--distance", f"{size.distance}"),
            *(("--ails", size.ails) if size.ails and name == "s0" else ()),
            *(("--unregistered",) if self.registry.setup.late else ()),
        )

    def replace(self, old: Program, port: str) -> Program:
        """The successor of a server, which is not ready yet."""
        new = self.start_server(f"{old.name}-new", port)
        self.servers[self.servers.index(old)] = new
        return new

    def _start_client(self, name: str) -> Program:
        size = self.size
        return self._start(
            *(name, "client"),
            *("--rate", f"{size.rate}", "--deadline", f"{size.deadline}"),
            *("--streams", f"{size.streams}", "--stream-seconds", f"{size.stream_seconds}"),
            *(("--patient",) if self.registry.setup.late else ()),
        )

    def _start(self, name: str, module: str, *flags: str) -> Program:
        flags += ("--registry", self.registry.url, "--ttl", f"{self.size.ttl}")
        program = Program(name, module, self.folder, "--service", SERVICE, *flags)
        self._stack.callback(program.stop)
        self.programs.append(program)
        return program

    def end_clients(self) -> None:
        """Let the clients finish their calls and end."""
        for client in self.clients:
            client.send(signal.SIGTERM)
        for client in self.clients:
            if status := client.wait():
                raise RuntimeError(f"{client.name} exited with {status}: {client.output}")

    # ---- what is known of them

    def run(self, seconds: float) -> None:
        """Let time pass, under load."""
        time.sleep(seconds)

    @contextmanager
    def paused(self, *programs: Program) -> Iterator[None]:
        """Freeze processes for the length of a block: they will be late with everything."""
        try:
            for program in programs:
                program.send(signal.SIGSTOP)
            yield
        finally:
            for program in programs:
                program.send(signal.SIGCONT)

    def names(self) -> set[str]:
        """The servers that there should be."""
        return {server.name for server in self.servers}

    def is_settled(self) -> bool:
        """Whether each client knows exactly the servers that there are."""
        return all(known(client) == sorted(self.names()) for client in self.clients)

    def is_registered(self) -> bool:
        """Whether etcd answers, and holds all servers."""
        try:
            return self.names() <= set(self.registry.names())
        except OSError:
            return False

    def agrees(self) -> bool:
        """Whether each client knows exactly what etcd holds, as it answers now."""
        try:
            announced = self.registry.names()
        except OSError:
            return False
        return all(known(client) == announced for client in self.clients)

    def changes(self, since: float) -> list[Happening]:
        """All changes of what the clients know, from a time on."""
        changes = [c for client in self.clients for c in client.happenings("endpoints.changed")]
        return [change for change in changes if change.at >= since]

    def calls(self) -> list[Call]:
        """All calls of all clients, in the order in which they began."""
        calls = [call for client in self.clients for call in client.calls()]
        return sorted(calls, key=lambda call: call.start)


def known(client: Program) -> list[str]:
    """What a client knows now: the names, with repetitions, sorted."""
    endpoints: dict[str, str] = {}
    for change in client.happenings("endpoints.changed"):
        delta = change.fields["delta"]
        endpoints |= delta["added"] | delta["changed"]
        for gone in delta["removed"]:
            endpoints.pop(gone)
    return sorted(name for name in endpoints.values() if name)
