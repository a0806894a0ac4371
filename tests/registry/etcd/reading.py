from collections.abc import AsyncIterator

import anyio

from meshkit.registry.store import Batch


async def take(changes: AsyncIterator[Batch], count: int = 1) -> list[Batch]:
    """The next batches; a watch that keeps silent fails the test instead of holding it up."""
    with anyio.fail_after(10):
        return [await anext(changes) for _ in range(count)]
