"""A registry: endpoints are announced in it and watched in it. Both ports, over any `Store`."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Final, NoReturn, final

import anyio

from meshkit.discovery import REGISTER_TIMEOUT, Watch
from meshkit.endpoint import Endpoint, EndpointSet
from meshkit.errors import ConfigError, MeshClosedError
from meshkit.events import Emit
from meshkit.latest import Latest
from meshkit.registry.cache import Cache
from meshkit.registry.configs import Configs
from meshkit.registry.directory import Directory
from meshkit.registry.keeper import Keeper
from meshkit.registry.layouts import DEFAULT_NAMESPACE, Layout
from meshkit.registry.outage import Outage, loop_time
from meshkit.registry.registrar import Registrar
from meshkit.registry.registration import Registration
from meshkit.registry.sources import Sources, service_at
from meshkit.registry.status import LeaseStatus, RegistryStatus, WatchStatus
from meshkit.registry.store import Store
from meshkit.registry.view import View
from meshkit.registry.watcher import Watcher
from meshkit.tasks import Job, Supervisor

__all__ = ["DEFAULT_TTL", "Registry"]

DEFAULT_TTL: Final = 15.0
_MARGIN: Final = 5.0  # seconds beyond the TTL for which an endpoint missing from a re-list is held
_END_TIMEOUT: Final = 2.0


@final
class Registry:
    """Announces and watches endpoints in a store; implements `Resolver` and `Registrar`.

    Attributes:
        configs: the service configs beside them.

    No I/O here: the supervisor starts one task per watched service with its first holder, and one
    for all registrations with the first of them.

    Args:
        store: where the endpoints are.
        layout: how they are written and read.
        also: how they are written besides.
        read: how they are read besides.
        namespace: whose services these are.
        ttl: of our lease, in seconds.
        emit: receives the events.
        supervisor: runs the tasks; open it before the first use, close it after this.
        relist: after how many seconds (+-20 %) a watch lists again.
        cache: keeps the last known endpoints on disk; None: nothing does.

    Raises:
        ConfigError: the layout cannot have this namespace, or the ttl is no time.
    """

    def __init__(
        self,
        store: Store,
        layout: Layout,
        *,
        also: Sequence[Layout] = (),
        read: Sequence[Layout] = (),
        namespace: str = DEFAULT_NAMESPACE,
        ttl: float = DEFAULT_TTL,
        emit: Emit,
        supervisor: Supervisor,
        relist: float = 30.0,
        cache: Cache | None = None,
        rng: random.Random | None = None,
        clock: Callable[[], float] = loop_time,
    ) -> None:
        if not ttl > 0:
            raise ConfigError(f"ttl is seconds, a number above 0, got {ttl}")
        self.configs: Final = Configs(store, layout, namespace)
        for each in (*also, *read):
            each.root(namespace)
        self._store = store
        self._read = (layout, *read)
        self._roots = tuple(each.root(namespace) for each in self._read)
        self._namespace = namespace
        self._hold = ttl + _MARGIN
        self._relist = relist
        self._emit = emit
        self._supervisor = supervisor
        self._rng = rng or random.Random()
        self._clock = clock
        self._outage = Outage(store.name, emit, clock)
        self._watches: dict[str, _Shared] = {}
        self._jobs: dict[str, Job] = {}
        self._keeper = cache and Keeper(cache, emit)
        self._directory = Directory(
            store,
            self._roots,
            hold=self._hold,
            relist=relist,
            outage=self._outage,
            rng=self._rng,
            clock=clock,
        )
        self._closed = False
        self._registrar = Registrar(
            store,
            (layout, *also),
            namespace=namespace,
            ttl=ttl,
            outage=self._outage,
            emit=emit,
            rng=self._rng,
            clock=clock,
        )

    @property
    def name(self) -> str:
        """Where this is, for people: a URL without secrets."""
        return self._store.name

    @property
    def namespace(self) -> str:
        """Whose services these are."""
        return self._namespace

    @property
    def peer(self) -> tuple[str, int] | None:
        """Host and port of the registry; None if it serves this machine only."""
        return self._store.peer

    @contextmanager
    def watch(self, service: str) -> Iterator[Watch]:
        """Follow `service` for the length of the block; all holders share one watch.

        Raises:
            ConfigError: the name cannot be part of a key.
            MeshClosedError: the registry was closed.
        """
        shared = self._watches.get(service)
        if shared is None:
            shared = self._watches[service] = self._start_watcher(service)
        shared.holders += 1
        try:
            yield shared.watcher
        finally:
            shared.holders -= 1
            if not shared.holders and self._watches.get(service) is shared:
                del self._watches[service]
                self._stop_watcher(shared)

    async def register(
        self,
        endpoints: Sequence[Endpoint],
        *,
        timeout: float = REGISTER_TIMEOUT,
        required: bool = True,
    ) -> Registration:
        """Announce endpoints that are bound and serving; see `discovery.Registrar.register`.

        Raises:
            ConfigError: the registry cannot take these endpoints.
            RegistryAuthError: it refuses us.
            RegistryUnavailable: they do not stand in time, and are required to.
            MeshClosedError: the registry was closed.
        """
        if not self._closed:
            self._run("registrar", self._registrar.run)
        return await self._registrar.register(endpoints, timeout=timeout, required=required)

    async def endpoints(self, service: str) -> EndpointSet:
        """The endpoints of `service` as they are listed now; a request, no watch.

        Raises:
            ConfigError: the name cannot be part of a key.
            RegistryUnavailable: the registry cannot be reached.
            RegistryAuthError: it refuses us.
        """
        sources = Sources(self._read, self._namespace, service)
        listing = await self._store.list(*sources.prefixes)
        view = View(
            service,
            sources.decode,
            hold=self._hold,
            skip=lambda _key, _reason: None,
            detail=lambda key: sources.of(key).detail,
        )
        return view.relist(listing, self._clock())

    async def services(self) -> tuple[str, ...]:
        """The names of all services of the namespace, sorted; raises like `endpoints`."""
        listing = await self._store.list(*self._roots)
        names = {service_at(item.key, self._roots) for item in listing.items}
        return tuple(sorted(name for name in names if name is not None))

    def watch_services(self) -> Latest[frozenset[str] | None]:
        """The names of all services, kept current from now on; None while they are not known.

        Raises:
            MeshClosedError: the registry was closed.
        """
        if self._closed:
            raise MeshClosedError("the registry is closed")
        self._run("directory", self._directory.run)
        return self._directory.latest

    def status(self) -> RegistryStatus:
        """How the registry, our watches and our registrations stand now."""
        since, lease, now = self._outage.since, self._registrar.lease, self._clock()
        return RegistryStatus(
            registry=self.name,
            namespace=self._namespace,
            connected=since is None,
            outage=None if since is None else now - since,
            reason=self._outage.reason,
            watches=MappingProxyType(
                {service: _status(shared.watcher) for service, shared in self._watches.items()}
            ),
            registrations=self._registrar.status(),
            lease=lease and LeaseStatus(id=lease.id, left=lease.expires_at - now),
        )

    async def aclose(self) -> None:
        """Withdraw everything, end all tasks, close the store; bounded, and twice is fine."""
        self._closed = True
        await self._registrar.close()
        jobs = [self._stop_watcher(shared) for shared in self._watches.values()]
        jobs += self._jobs.values()
        self._watches.clear()
        with anyio.move_on_after(_END_TIMEOUT, shield=True):
            for job in jobs:
                job.cancel()
                await job.ended()
        with anyio.move_on_after(_END_TIMEOUT, shield=True):
            if self._keeper is not None:
                await self._keeper.flush()
        with anyio.move_on_after(_END_TIMEOUT, shield=True):
            await self._store.aclose()

    def _start_watcher(self, service: str) -> _Shared:
        if self._closed:
            raise MeshClosedError("the registry is closed")
        if self._keeper is not None:
            self._run("cache", self._keeper.run)
        watcher = Watcher(
            self._store,
            self._read,
            namespace=self._namespace,
            service=service,
            hold=self._hold,
            relist=self._relist,
            outage=self._outage,
            emit=self._emit,
            rng=self._rng,
            clock=self._clock,
            keeper=self._keeper,
        )
        return _Shared(watcher, self._supervisor.start(f"watch {service}", watcher.run, keep=True))

    def _run(self, name: str, loop: Callable[[], Awaitable[NoReturn]]) -> None:
        """Start a task, unless it was."""
        if name not in self._jobs:
            self._jobs[name] = self._supervisor.start(name, loop, keep=True)

    def _stop_watcher(self, shared: _Shared) -> Job:
        shared.job.cancel()
        self._outage.leave(shared.watcher)
        return shared.job


@final
class _Shared:
    """A watcher, its task, and how many hold it."""

    __slots__ = ("holders", "job", "watcher")

    def __init__(self, watcher: Watcher, job: Job) -> None:
        self.watcher = watcher
        self.job = job
        self.holders = 0


def _status(watcher: Watcher) -> WatchStatus:
    endpoints = watcher.latest.value.endpoints
    return WatchStatus(
        total=None if endpoints is None else len(endpoints),
        unconfirmed=watcher.unconfirmed,
        age=watcher.age(),
        from_cache=watcher.latest.value.from_cache,
        layouts=watcher.layouts(),
    )
