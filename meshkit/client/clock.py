"""The time of an event loop: asked for each call, so on the shortest way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

__all__ = ["clock_of", "forever"]


def clock_of(loop: asyncio.AbstractEventLoop) -> Callable[[], float]:
    """What `loop.time` reads, without the way there in asyncio's own loops."""
    is_plain = type(loop).time is asyncio.BaseEventLoop.time
    return time.monotonic if is_plain else loop.time


def forever() -> None:
    """The time that remains for whom nobody waits."""
    return
