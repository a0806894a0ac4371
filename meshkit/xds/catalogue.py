"""What the registry knows of the services that somebody asks for, translated, and kept current.

While the registry cannot be reached the last that was known stays, as its watches have it. What was
never known is not spoken of, except to clients that have nothing: after a while those are told that
there are no endpoints yet. A client of gRPC that hears nothing for 15 seconds takes the service for
deleted, and does not wake when it comes (gRFC A27, A88).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Final, TypeAlias, final

import anyio

from meshkit.balancer import Selector
from meshkit.discovery import Directory, Watch
from meshkit.endpoint import EndpointSet
from meshkit.service_config import ServiceConfig
from meshkit.tasks import Job, Supervisor
from meshkit.xds.endpoints import hosts_of
from meshkit.xds.hosts import REFRESH, Hosts
from meshkit.xds.names import BY_AUTHORITY
from meshkit.xds.resources import ROUTE, Resource, version_of
from meshkit.xds.routes import route_by_authority, selectors_of
from meshkit.xds.translation import Audience, Translation

__all__ = ["Catalogue", "Followed", "Wake"]

Wake: TypeAlias = Callable[[], None]

_PATIENCE: Final = 5.0  # seconds; clients of gRPC have 15
_REST: Final = 0.02  # seconds between two translations of one service: a burst is one
_LINGER: Final = 10.0  # seconds for which a cluster stays that no route names any more
_IDLE: Final = 600.0  # seconds for which a service is followed that nobody asks for any more
_MOST_JOINED: Final = 16  # sets of services whose common routes are kept
_NO_CONFIG: Final = ServiceConfig()
_NO_HOSTS: Final[Mapping[str, str]] = MappingProxyType({})


@final
class Followed:
    """A service that somebody asks for.

    Attributes:
        name: of the service.
        wakes: called after each change.
    """

    def __init__(self, name: str, clock: Callable[[], float]) -> None:
        self.name: Final = name
        self.wakes: Final[set[Wake]] = set()
        self._clock = clock
        self._translation: Translation | None = None
        self._ghost: Translation | None = None
        self._source: tuple[object, ...] = ()
        self._named: tuple[Selector, ...] = ()  # by routes
        self._lingering: dict[Selector, float] = {}  # until when
        self.idle_since = clock()

    def known(self, *, fresh: bool) -> Translation | None:
        """What is known of it; None: nothing yet. `fresh` clients are content with less."""
        return self._translation or (self._ghost if fresh else None)

    @property
    def is_useless(self) -> bool:
        """Whether nobody has asked for it for a long time, or it has nothing to remember."""
        if self.wakes:
            return False
        known = self._translation
        return known is None or known.is_empty or self._clock() - self.idle_since > _IDLE

    def haunt(self) -> None:
        """Say to clients that have nothing that there are no endpoints."""
        if self._translation is None:
            self._ghost = Translation(self.name, EndpointSet(self.name))
            self._wake()

    def adopt(
        self, endpoints: EndpointSet, config: ServiceConfig | None, hosts: Mapping[str, str]
    ) -> None:
        """Translate what is known now, if it is anything new."""
        now = self._clock()
        named = selectors_of(config or _NO_CONFIG)
        self._lingering = {each: due for each, due in self._lingering.items() if due > now}
        self._lingering.update((each, now + _LINGER) for each in self._named if each not in named)
        self._named = named
        source = (endpoints, config, hosts, tuple(self._lingering))
        if source != self._source:
            self._source = source
            lingering = tuple(self._lingering)
            self._translation = Translation(self.name, endpoints, config, hosts, lingering)
            self._wake()

    def next_look(self) -> float:
        """Seconds until something is to be done although nothing has changed."""
        return max(0.0, min([REFRESH, *(due - self._clock() for due in self._lingering.values())]))

    def _wake(self) -> None:
        for wake in tuple(self.wakes):
            wake()


@final
class Catalogue:
    """All services that are followed; a task for each.

    Args:
        registry: where they are watched.
        hosts: the IPs of host names.
        supervisor: runs the tasks.
        clock: seconds.
    """

    def __init__(
        self,
        registry: Directory,
        hosts: Hosts,
        supervisor: Supervisor,
        clock: Callable[[], float],
    ) -> None:
        self._registry = registry
        self._hosts = hosts
        self._supervisor = supervisor
        self._clock = clock
        self._services: dict[str, Followed] = {}
        self._names = registry.watch_services()
        self._wakes: set[Wake] = set()
        self._synced = anyio.Event()
        self._jobs: dict[str, Job] = {"": supervisor.start("xds names", self._follow_names)}
        self._by_authority: dict[str, Resource] = {}

    @property
    def names(self) -> frozenset[str] | None:
        """The names of all services; None while they are not known."""
        return self._names.value

    async def synced(self) -> None:
        """Return when the registry has said anything."""
        await self._synced.wait()

    def follow(self, name: str, wake: Wake) -> Followed:
        """Follow a service, until `leave` with the same `wake`."""
        service = self._services.get(name)
        if service is None:
            service = self._services[name] = Followed(name, self._clock)
            self._jobs[name] = self._supervisor.start(f"xds {name}", self._run, service, keep=True)
        service.wakes.add(wake)
        return service

    def leave(self, service: Followed, wake: Wake) -> None:
        """Do not call `wake` any more; what nobody asks for is forgotten by and by."""
        service.wakes.discard(wake)
        service.idle_since = self._clock()
        if service.is_useless:
            self._forget(service)

    def follow_names(self, wake: Wake) -> None:
        """Call `wake` when names come and go."""
        self._wakes.add(wake)

    def leave_names(self, wake: Wake) -> None:
        """Do not call it any more."""
        self._wakes.discard(wake)

    def by_authority(self, services: Iterable[Translation], audience: Audience) -> Resource:
        """The routes of several services by name, made once for all who have the same."""
        found = [(each, each.find(ROUTE, each.service, audience)) for each in services]
        version = version_of(route for _, route in found if route is not None)
        if version not in self._by_authority:
            if len(self._by_authority) >= _MOST_JOINED:
                self._by_authority.clear()
            hosts = (each.virtual_host(audience.family) for each, _ in found)
            self._by_authority[version] = Resource.of(BY_AUTHORITY, route_by_authority(hosts))
        return self._by_authority[version]

    async def aclose(self) -> None:
        """End all tasks."""
        for job in self._jobs.values():
            job.cancel()
        for job in tuple(self._jobs.values()):
            await job.ended()

    def _forget(self, service: Followed) -> None:
        del self._services[service.name]
        self._jobs.pop(service.name).cancel()

    async def _follow_names(self) -> None:
        async for names in self._names.values():
            if names is not None:
                self._synced.set()
            for wake in tuple(self._wakes):
                wake()

    async def _run(self, service: Followed) -> None:
        with self._registry.watch(service.name) as watch:
            with anyio.move_on_after(_PATIENCE):
                while watch.latest.value.endpoints is None:
                    await watch.latest.changed()
            service.haunt()
            while not service.is_useless:
                await self._translate(service, watch)
        self._forget(service)

    async def _translate(self, service: Followed, watch: Watch) -> None:
        """Translate what is known, and return after the next change."""
        resolution = watch.latest.value
        if resolution.endpoints is not None:
            names = hosts_of(resolution.endpoints)
            hosts = await self._hosts.find(names) if names else _NO_HOSTS
            self._synced.set()
            service.adopt(resolution.endpoints, resolution.config, hosts)
            await anyio.sleep(_REST)
        if watch.latest.value is resolution:
            with anyio.move_on_after(service.next_look()):
                await watch.latest.changed()
