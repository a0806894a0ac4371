import asyncio
import gc

import pytest

from tests.leftover import no_task_is_left


def tasks_of_ours():
    """All tasks but those that anyio runs tests and fixtures in."""
    return {t for t in asyncio.all_tasks() if "TestRunner" not in t.get_coro().__qualname__}


@pytest.fixture
async def no_task_left():
    yield
    gc.collect()
    of_anyio = asyncio.all_tasks() - tasks_of_ours()
    await no_task_is_left(of_anyio | {asyncio.current_task()})
