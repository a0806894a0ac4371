from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.registry.tasks.fakes import Bench


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    await bench.supervisor.open()
    yield bench
    bench.store.faults.clear()
    await bench.registry.aclose()
    await bench.supervisor.aclose()
