"""Routes change while calls run: all models follow, and lose none."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from meshkit import Mesh
from tests.routing.model import Caller, Model
from tests.routing.table import Asked
from tests.routing.world import announced

pytestmark = pytest.mark.anyio

SERVICE = "changing"
V1, V2 = {"version": "v1"}, {"version": "v2"}
TESTER = (("x-tester", "yes"),)
TO_TESTERS = {
    "match": {"headers": [{"name": "x-tester", "present": True}]},
    "destinations": [V2],
}
STEPS: tuple[tuple[list[dict[str, Any]], str, str], ...] = (
    # routes, who answers plain calls, who answers testers
    ([{"destinations": [V1]}], "v1", "v1"),
    ([TO_TESTERS, {"destinations": [V1]}], "v1", "v2"),
    ([TO_TESTERS, {"destinations": [V1 | {"weight": 1}, V2 | {"weight": 1}]}], "v1 v2", "v2"),
    ([{"destinations": [V2]}], "v2", "v2"),
    ([{"destinations": [{"version": "v7", "weight": 9}, V1]}], "v1", "v1"),
    ([], "v1 v2", "v1 v2"),
)


@pytest.fixture(scope="module")
async def mesh(anyio_backend: str) -> AsyncIterator[Mesh]:
    async with Mesh("memory://routing-changes") as mesh, announced(mesh, SERVICE):
        yield mesh


async def versions(caller: Caller, metadata: tuple[tuple[str, str], ...]) -> Counter[str]:
    """Which versions answer a few calls; none may fail."""
    asked = Asked(path="/shop.Cart/Add", metadata=metadata, times=24)
    found = await caller.answers(asked)
    assert found.total() == asked.times
    assert not [name for name in found if name.isupper()], f"a status code: {dict(found)}"
    return Counter({name[:2]: count for name, count in found.items() if name != "old"})


async def test_they_follow_and_lose_no_call(model: Model, mesh: Mesh) -> None:
    async with model.calling(SERVICE) as caller:
        await versions(caller, ())
        for routes, plain, testers in STEPS:
            await mesh.configs.publish(SERVICE, {"routes": routes})
            with anyio.fail_after(10):
                for metadata, expected in (((), plain), (TESTER, testers)):
                    while " ".join(sorted(await versions(caller, metadata))) != expected:
                        await anyio.sleep(0.01)
