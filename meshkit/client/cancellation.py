"""Cancelled by whom? A CancelledError that comes out of grpc.aio does not say.

- It has lost its message (grpc/grpc#43502), by which anyio knows its own.
- It is also thrown at callers whom nobody has cancelled: when the channel is closed under them.
"""

from __future__ import annotations

import asyncio
from typing import Final

__all__ = ["LOCALLY", "heed"]

LOCALLY: Final = "Locally cancelled by application!"
"""grpc.aio's words for a call that was cancelled on this side."""


async def heed(error: asyncio.CancelledError) -> None:
    """If our task is being cancelled, raise what its canceller will know; else return."""
    task = asyncio.current_task()
    if task is None or not task.cancelling():
        return
    if not error.args:
        # anyio goes on cancelling until it is heard: give it the turns to do so.
        for _ in range(3):
            await asyncio.sleep(0)
    raise error
