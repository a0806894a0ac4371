"""When a mesh runs, from its first use to its closing, and where: one loop, one process."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import final

from meshkit.client import Channel, ChannelOptions
from meshkit.config import Settings
from meshkit.errors import MeshClosedError
from meshkit.events import ConfigResolved, Emit
from meshkit.opening import Opening
from meshkit.running import Running, refuse_after_fork
from meshkit.server import Server, ServerOptions

__all__ = ["Lifetime"]


@final
class Lifetime:
    """Opens a mesh on the loop that first uses it, and anew after it was closed."""

    def __init__(self, settings: Settings, emit: Emit) -> None:
        self._settings = settings
        self._emit = emit
        self._running: Running | None = None

    @property
    def running(self) -> Running | None:
        """What is open in this process; None if nothing is."""
        running = self._running
        if running is None or running.is_over or running.pid != os.getpid():
            return None
        return running

    async def open(self) -> Running:
        """What is open; opened, if nothing is.

        Raises:
            MeshClosedError: it is open elsewhere, or being closed.
        """
        running = self._running
        if running is None or running.is_over:
            running = self._running = self._make()
        _check_place(running)
        if running.is_closed:
            raise MeshClosedError("this Mesh is being closed")
        await running.open()
        return running

    def channel(self, service: str, options: ChannelOptions, warm_up: float) -> Opening[Channel]:
        """A channel of what is open, to be awaited or entered."""

        async def keep() -> Channel:
            return await (await self.open()).channels.keep(service, options, warm_up)

        @asynccontextmanager
        async def borrow() -> AsyncIterator[Channel]:
            channels = (await self.open()).channels
            async with channels.borrow(service, options, warm_up) as channel:
                yield channel

        return Opening(keep, borrow)

    @asynccontextmanager
    async def serve(
        self, services: Mapping[str, object], options: ServerOptions
    ) -> AsyncIterator[Server]:
        """Serve for the length of the block, in what is open."""
        running = await self.open()
        async with running.serve(services, options) as server:
            yield server

    def _make(self) -> Running:
        settings = self._settings
        running = Running(settings, self._emit)
        where = str(settings.registry)
        self._emit(ConfigResolved(where, settings.namespace, settings.sources))
        return running

    async def aclose(self) -> None:
        """Close what is open in this process; twice is fine.

        Raises:
            MeshClosedError: it is open on another event loop.
        """
        running = self.running
        if running is not None:
            _check_place(running)
            await running.aclose()


def _check_place(running: Running) -> None:
    if running.pid != os.getpid():
        refuse_after_fork()
    if running.loop is not asyncio.get_running_loop():
        raise MeshClosedError(
            "this Mesh is open on another event loop: close it there first, "
            "or make one for each loop"
        )
