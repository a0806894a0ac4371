from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator

import pytest


@pytest.fixture(scope="package")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="package", autouse=True)
async def one_loop(anyio_backend: str) -> AsyncIterator[None]:
    """All tests here share a loop.

    Core tells of a connection's end when the last call object of it is gone, by garbage collection
    maybe; that must not meet the closed loop of an earlier test.
    """
    yield
    gc.collect()
    await asyncio.sleep(0.1)
