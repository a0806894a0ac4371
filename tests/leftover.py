"""What is left of something that has ended: nothing, a moment later."""

from __future__ import annotations

import asyncio
from collections.abc import Set as AbstractSet
from typing import Any

import anyio

__all__ = ["no_task_is_left"]


async def no_task_is_left(before: AbstractSet[asyncio.Task[Any]], within: float = 5.0) -> None:
    """Return when all tasks are among those of `before`.

    gRPC learns of the end of a call in a thread, and ends a task of its own then: after the call
    has ended for us, and on a busy machine a while after. What was there `before` may end, too.
    """
    try:
        with anyio.fail_after(within):
            while asyncio.all_tasks() - before:
                await anyio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"tasks are left: {asyncio.all_tasks() - before}") from None
