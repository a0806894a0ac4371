"""What a test puts between a store in memory and its callers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import anyio

from meshkit.errors import RegistryError

__all__ = ["Bell", "Fault"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What happens to requests and answers; by default nothing. `delay` is in seconds."""

    error: Callable[[], RegistryError] | None = None
    keeps_requests: bool = False
    keeps_answers: bool = False
    delay: float = 0.0


@final
class Bell:
    """Wakes one watch, or one caller that is held up, from any thread."""

    __slots__ = ("__weakref__", "_loop", "_rung")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """Wake who waits, or who will wait next."""
        # A loop may have been closed in the middle of a watch; that is no trouble of the writer's.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._rung.set)

    async def wait(self, timeout: float | None) -> None:
        """Return after a `ring`, or after `timeout` seconds (None: no bound)."""
        with anyio.move_on_after(timeout):
            await self._rung.wait()
        self._rung.clear()
