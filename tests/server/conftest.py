import asyncio
import gc

import anyio
import pytest


def tasks_of_ours():
    """All tasks but those that anyio runs tests and fixtures in."""
    return {t for t in asyncio.all_tasks() if "TestRunner" not in t.get_coro().__qualname__}


@pytest.fixture
async def no_task_left():
    yield
    for _ in range(10):  # grpc.aio's own tasks need some turns of the loop to end
        await anyio.sleep(0)
    gc.collect()
    assert tasks_of_ours() - {asyncio.current_task()} == set()
