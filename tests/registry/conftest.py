from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from meshkit.registry.store import Store
from tests.registry.stores import OPENERS, Harness


@pytest.fixture(params=[pytest.param(kind, id=kind) for kind in OPENERS])
async def harness(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Harness]:
    async with OPENERS[request.param](tmp_path) as opened:
        yield opened


@pytest.fixture
async def store(harness: Harness) -> AsyncIterator[Store]:
    async with contextlib.aclosing(harness.client()) as client:
        yield client


@pytest.fixture
async def other(harness: Harness) -> AsyncIterator[Store]:
    """A second client to the data of `store`."""
    async with contextlib.aclosing(harness.client()) as client:
        yield client
