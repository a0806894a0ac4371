"""A mesh between opening and closing: what it holds, on one loop, in one process."""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterable, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, NoReturn, final

import anyio

from meshkit.channels import Channels
from meshkit.client import Channel, ChannelOptions, ChannelStatus
from meshkit.config import Settings
from meshkit.discovery import Registration, Watch
from meshkit.endpoint import Endpoint, EndpointSet
from meshkit.errors import ConfigError, MeshClosedError
from meshkit.events import Emit
from meshkit.loop_lag import LoopLag, LoopLagMonitor
from meshkit.registry.opening import open_registry
from meshkit.registry.status import RegistryStatus
from meshkit.server import Server, ServerOptions, Site, find_place
from meshkit.tasks import Job, Supervisor
from meshkit.xds import ControlPlaneOptions, make_control_plane

if TYPE_CHECKING:
    from meshkit.xds.control_plane import ControlPlane

__all__ = ["MeshStatus", "Running", "refuse_after_fork"]

_LEAVE: Final = 5.0  # seconds; the withdrawal has a shorter bound of its own


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class MeshStatus:
    """A mesh at one moment, for readiness pages and people.

    Attributes:
        registry: the registry link: reachable or not, since when, what is announced and watched.
        channels: each open channel.
        servers: each server of this mesh, as its repr tells it.
        loop_lag: how late its event loop runs.
    """

    registry: RegistryStatus
    channels: tuple[ChannelStatus, ...]
    servers: tuple[str, ...]
    loop_lag: LoopLag


@final
class Running:
    """A mesh between opening and closing; runs once.

    Attributes:
        loop: where it runs.
        pid: the process in which it does.
        registry: where it announces and watches.
        channels: all its channels.
        emit: takes its events.
        is_closed: whether its servers have drained, and the rest closes or is closed.
    """

    def __init__(self, settings: Settings, emit: Emit) -> None:
        self._settings: Final = settings
        self.emit: Final = emit
        self.loop: Final = asyncio.get_running_loop()
        self.pid: Final = os.getpid()
        self._supervisor: Final = Supervisor(emit)
        self.registry: Final = open_registry(
            settings.registry,
            namespace=settings.namespace,
            ttl=settings.ttl,
            cache=settings.cache,
            emit=emit,
            supervisor=self._supervisor,
            clock=self.loop.time,
        )
        self.channels: Final = Channels(self._make_channel)
        self._servers: Final[set[Server]] = set()
        self._planes: Final[set[ControlPlane]] = set()
        self._watches: Final[list[Watch]] = []
        self._lag: Final = LoopLagMonitor(
            emit,
            renewal=settings.ttl / 3,
            announces=lambda: self.registry.status().lease is not None,
            clock=self.loop.time,
        )
        self._measuring: Job | None = None
        self._closing: asyncio.Task[None] | None = None
        self.is_closed = False
        _RUNNING.add(self)

    # ---- from opening to closing

    @property
    def is_over(self) -> bool:
        """Whether it was closed, or its loop has ended without closing it, as test clients do."""
        return self.loop.is_closed() or (self._closing is not None and self._closing.done())

    async def open(self) -> None:
        """Start the tasks, unless somebody has; returns when they can be used."""
        await self._supervisor.open()
        if self._measuring is None and not self.is_closed:
            self._measuring = self._supervisor.start("loop lag", self._lag.run, keep=True)

    async def aclose(self) -> None:
        """Servers drain, then channels close, then the registry is left, then the tasks end.

        All callers share one closing, which goes on when a caller is cancelled; servers do not
        wait for their calls any more, then. Bounded, as each part of it is.
        """
        if self._closing is None:
            self._closing = self.loop.create_task(self._close(), name="meshkit closing")
        try:
            with anyio.CancelScope(shield=True):
                await asyncio.wait([self._closing])
        except asyncio.CancelledError:  # by asyncio's own cancel, which no shield stops
            with anyio.CancelScope(shield=True):
                await _all(server.stop for server in self._servers)
                await asyncio.wait([self._closing])
            raise
        self._closing.result()

    async def _close(self) -> None:
        async with AsyncExitStack() as steps:  # backwards, each whatever became of the others
            steps.push_async_callback(self._supervisor.aclose)
            steps.push_async_callback(self.registry.aclose)
            steps.push_async_callback(self.channels.aclose)
            steps.push_async_callback(_all, [plane.aclose for plane in self._planes])
            steps.callback(self._shut)
            await _all(server.drain for server in self._servers)

    def _shut(self) -> None:
        """Not before the servers have drained: calls that they finish may need our channels."""
        self.is_closed = True
        for watch in self._watches:
            watch.latest.set(watch.latest.value)  # wakes its readers

    # ---- what it is used for

    def _make_channel(self, service: str, options: ChannelOptions) -> Channel:
        with self.registry.watch(service):  # refuses a bad name here: its task could tell nobody
            return Channel(service, self.registry, self._supervisor, options, self.emit)

    @asynccontextmanager
    async def watch(self, service: str) -> AsyncIterator[AsyncIterator[EndpointSet]]:
        """Follow `service` for the length of the block."""
        with self.registry.watch(service) as watch:
            self._watches.append(watch)
            try:
                async with aclosing(self._sets(watch)) as sets:
                    yield sets
            finally:
                self._watches.remove(watch)

    async def _sets(self, watch: Watch) -> AsyncGenerator[EndpointSet, None]:
        known: EndpointSet | None = None
        while not self.is_closed:
            endpoints = watch.latest.value.endpoints
            if endpoints is None or endpoints is known:
                await watch.latest.changed()
            else:
                known = endpoints
                yield known
        raise MeshClosedError("this Mesh was closed while a service was watched")

    @asynccontextmanager
    async def serve(
        self, services: Mapping[str, object], options: ServerOptions
    ) -> AsyncIterator[Server]:
        """Serve for the length of the block."""
        self._check_not_closing()
        server = Server(
            services,
            self.registry,
            options,
            self.emit,
            Site(
                address=self._settings.advertise,
                allow_remote=not self._settings.is_implicit,
                loop_lag=lambda: self._lag.last,
            ),
        )
        self._servers.add(server)
        try:
            async with server:
                yield server
        finally:
            self._servers.discard(server)

    @asynccontextmanager
    async def xds(self, options: ControlPlaneOptions) -> AsyncIterator[ControlPlane]:
        """Serve xDS for the length of the block."""
        self._check_not_closing()
        plane = make_control_plane(
            self.registry, self.registry.name, options, self._supervisor, self.emit
        )
        self._planes.add(plane)
        try:
            async with plane:
                yield plane
        finally:
            self._planes.discard(plane)

    @asynccontextmanager
    async def register(
        self, endpoint: Endpoint, *, timeout: float, required: bool
    ) -> AsyncIterator[Registration]:
        """Announce `endpoint` for the length of the block."""
        self._check_not_closing()
        if endpoint.keepalive and not endpoint.keepalive >= 1:
            raise ConfigError(f"keepalive must be 0, or 1 or more, got {endpoint.keepalive}")
        place = await find_place(
            self.registry.peer,
            advertise=endpoint.address,
            allow_remote=not self._settings.is_implicit,
        )
        if place.advertise.port is None:
            raise ConfigError(f"{endpoint.address!r} has no port; write host:port")
        announced = replace(endpoint, address=str(place.advertise))
        registration = await self.registry.register([announced], timeout=timeout, required=required)
        try:
            yield registration
        finally:
            with anyio.move_on_after(_LEAVE, shield=True):
                await registration.withdraw()

    def _check_not_closing(self) -> None:
        if self._closing is not None:
            raise MeshClosedError("this Mesh is being closed")

    def status(self) -> MeshStatus:
        """What is going on."""
        return MeshStatus(
            registry=self.registry.status(),
            channels=self.channels.status(),
            servers=tuple(map(repr, self._servers)),
            loop_lag=self._lag.status(),
        )


async def _all(functions: Iterable[Callable[[], Coroutine[Any, Any, None]]]) -> None:
    async with anyio.create_task_group() as group:
        for function in functions:
            group.start_soon(function)


def refuse_after_fork() -> NoReturn:
    """Say why a forked child cannot use the mesh of its parent.

    Raises:
        MeshClosedError: always.
    """
    raise MeshClosedError(
        "this Mesh was opened before the process forked, and gRPC does not survive a fork: open it "
        "in the child (after the fork), or start children with multiprocessing's 'spawn'"
    )


_RUNNING: Final[weakref.WeakSet[Running]] = weakref.WeakSet()


def _disown() -> None:
    for running in _RUNNING:
        running.channels.disown(refuse_after_fork)


os.register_at_fork(after_in_child=_disown)  # connections and leases are the parent's
