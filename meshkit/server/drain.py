"""Leaving, waiting, finishing: how a server ends without dropping a call.

The order was measured: a server that stops as it leaves fails calls of clients that have not
noticed yet (gRPC answers them CANCELLED); one that waits until they have, fails none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, final

import anyio
from grpc import aio

from meshkit.discovery import Registration
from meshkit.events import Emit, ServerDrained, ServerDraining, StreamsCut, TaskCrashed
from meshkit.server.calls import Calls, Quiet
from meshkit.server.health import Health

__all__ = ["FLUSH", "Drain", "Parts"]

# Seconds that gRPC may take to write out last answers, and cut handlers to clean up.
FLUSH: Final = 1.0


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a drain works on."""

    address: str
    server: aio.Server
    calls: Calls
    health: Health
    registration: Registration | None
    emit: Emit


@final
class Drain:
    """The one drain of a server; times are those of `ServerOptions`."""

    def __init__(self, parts: Parts, *, leave_timeout: float, quiet: Quiet, grace: float) -> None:
        self._parts = parts
        self._leave_timeout = leave_timeout
        self._quiet = quiet
        self._grace = grace
        self._patience = anyio.CancelScope()  # cancelled, it waits for nothing any more

    def hurry(self) -> None:
        """Stop waiting: cut the calls that are left and end."""
        self._patience.cancel()

    async def run(self) -> None:
        """Drain to the end. Bounded, and no trouble of the registry stops it."""
        parts = self._parts
        began = anyio.current_time()
        parts.health.drain()
        parts.calls.ask_to_end()
        parts.emit(ServerDraining(parts.address, parts.calls.in_flight))
        async with anyio.create_task_group() as tasks:
            with self._patience:
                await self._withdraw()
                await parts.calls.quiet(self._quiet)
                parts.health.close()
                refused = anyio.Event()
                tasks.start_soon(self._refuse_calls, refused)
                with anyio.move_on_after(self._grace):
                    await self._at_rest(refused)
            cut = parts.calls.by_method
            if cut:
                grace = 0.0 if self._patience.cancel_called else self._grace
                parts.emit(StreamsCut(parts.address, grace, cut))
            await parts.server.stop(None)
        with anyio.move_on_after(FLUSH):
            await parts.calls.idle()  # handlers that were cut clean up
        duration = anyio.current_time() - began
        parts.emit(ServerDrained(parts.address, duration, sum(cut.values())))

    async def _withdraw(self) -> None:
        if self._parts.registration is None:
            return
        try:
            with anyio.move_on_after(self._leave_timeout):
                await self._parts.registration.withdraw()
        except Exception as error:  # noqa: BLE001 -- the registry must not stand in the way
            self._parts.emit(TaskCrashed("withdraw", error))

    async def _refuse_calls(self, refused: anyio.Event) -> None:
        # Longer than the grace: we end it ourselves, so that we know what is cut.
        await self._parts.server.stop(self._grace + 2 * FLUSH)
        refused.set()

    async def _at_rest(self, refused: anyio.Event) -> None:
        """Return when no call is left.

        Ours is the count that matters. gRPC takes aborted calls for ended too early, and waits
        for health watches and reflection streams, which may never end.
        """
        await self._parts.calls.idle()
        with anyio.move_on_after(FLUSH):
            await refused.wait()
        await self._parts.calls.idle()  # one that was on its way
