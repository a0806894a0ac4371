from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from meshkit.registry.store import Store
from tests.registry.stores import EtcdHarness, Harness, LocalHarness, MemoryHarness


@pytest.fixture(params=["memory", "local", pytest.param("etcd", marks=pytest.mark.etcd)])
async def harness(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Harness]:
    match request.param:
        case "memory":
            yield MemoryHarness()
        case "local":
            async with contextlib.AsyncExitStack() as owners:
                yield LocalHarness(tmp_path / "registry.db", owners)
        case "etcd":
            yield await EtcdHarness.emptied(request.getfixturevalue("etcd"))


@pytest.fixture
async def store(harness: Harness) -> AsyncIterator[Store]:
    async with contextlib.aclosing(harness.client()) as client:
        yield client


@pytest.fixture
async def other(harness: Harness) -> AsyncIterator[Store]:
    """A second client to the data of `store`."""
    async with contextlib.aclosing(harness.client()) as client:
        yield client
