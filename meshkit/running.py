"""A mesh between opening and closing: what it holds, on one loop, in one process."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, NoReturn, final

import anyio

from meshkit.client import Channel, ChannelOptions, ChannelStatus
from meshkit.config import Settings
from meshkit.errors import MeshClosedError
from meshkit.events import Emit
from meshkit.registry.opening import open_registry
from meshkit.registry.status import RegistryStatus
from meshkit.server import Server
from meshkit.tasks import Supervisor

__all__ = ["MeshStatus", "Running"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class MeshStatus:
    """A mesh at one moment, for readiness pages and people.

    Attributes:
        registry: the registry link: reachable or not, since when, what is announced and watched.
        channels: each open channel.
        servers: each server of this mesh, as its repr tells it.
    """

    registry: RegistryStatus
    channels: tuple[ChannelStatus, ...]
    servers: tuple[str, ...]


@final
class Running:
    """A mesh between opening and closing, on one loop, in one process."""

    def __init__(self, settings: Settings, emit: Emit) -> None:
        self.loop: Final = asyncio.get_running_loop()
        self.pid: Final = os.getpid()
        self._emit: Final = emit
        self._ready: Final = anyio.Event()
        self.supervisor: Final = Supervisor(emit)
        self.registry: Final = open_registry(
            settings.registry,
            namespace=settings.namespace,
            ttl=settings.ttl,
            emit=emit,
            supervisor=self.supervisor,
        )
        self._channels: Final[dict[tuple[str, ChannelOptions], Channel]] = {}
        self._holders: Final[Counter[Channel]] = Counter()
        self.servers: Final[set[Server]] = set()

    async def open(self) -> None:
        """Start the tasks; to be called once."""
        await self.supervisor.open()
        self._ready.set()

    async def opened(self) -> None:
        """Return when somebody's `open` is done."""
        await self._ready.wait()

    async def keep_channel(self, service: str, options: ChannelOptions) -> Channel:
        """The shared channel to `service`, until the mesh closes."""
        channel = self._channel(service, options)
        self._holders[channel] += 1
        await channel.warm_up()
        return channel

    @asynccontextmanager
    async def borrow_channel(self, service: str, options: ChannelOptions) -> AsyncIterator[Channel]:
        """The shared channel to `service`; closed when its last holder has left."""
        channel = self._channel(service, options)
        self._holders[channel] += 1
        try:
            await channel.warm_up()
            yield channel
        finally:
            self._holders[channel] -= 1
            if not self._holders[channel]:
                await channel.close()

    def _channel(self, service: str, options: ChannelOptions) -> Channel:
        known = self._channels.get((service, options))
        if known is None or known.is_closed:
            known = Channel(service, self.registry, self.supervisor, options, self._emit)
            self._channels[service, options] = known
        return known

    def status(self) -> MeshStatus:
        """What is going on."""
        return MeshStatus(
            registry=self.registry.status(),
            channels=tuple(c.status() for c in self._channels.values() if not c.is_closed),
            servers=tuple(map(repr, self.servers)),
        )

    def disown(self) -> None:
        """In a forked child: connections and leases are the parent's."""
        for channel in self._channels.values():
            channel.disown(refuse_after_fork)

    async def aclose(self) -> None:
        """Servers drain first, then channels close, then the registry, then the tasks."""
        async with anyio.create_task_group() as closing:
            for server in self.servers:
                closing.start_soon(server.drain)
        async with anyio.create_task_group() as closing:
            for channel in self._channels.values():
                closing.start_soon(channel.close)
        await self.registry.aclose()
        await self.supervisor.aclose()


def refuse_after_fork() -> NoReturn:
    """Say why a forked child cannot use the mesh of its parent.

    Raises:
        MeshClosedError: always.
    """
    raise MeshClosedError(
        "this Mesh was opened before the process forked, and gRPC does not survive a fork: open it "
        "in the child (after the fork), or start children with multiprocessing's 'spawn'"
    )
