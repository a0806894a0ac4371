"""All models follow the routes of the table: they are run against the very same one."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator

import pytest

from meshkit import Mesh
from tests.routing.model import Model
from tests.routing.table import CASES, Asked, Case
from tests.routing.world import announced

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
async def mesh(anyio_backend: str) -> AsyncIterator[Mesh]:
    services = (case.service for case in CASES)
    async with Mesh("memory://routing") as mesh, announced(mesh, *services):
        for case in CASES:
            await mesh.configs.publish(case.service, case.config)
        yield mesh


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_case(model: Model, case: Case) -> None:
    if case.needs in model.lacks:
        pytest.skip(model.lacks[case.needs])
    async with model.calling(case.service) as caller:
        for asked in case.calls:
            asked.check(await caller.answers(asked))


# ---- the table itself


@pytest.mark.parametrize(
    ("asked", "answers"),
    [
        (Asked(path="/a/b", expected={"v1": 1}, times=12), {"v1a": 11, "v2a": 1}),
        (Asked(path="/a/b", expected={"v1": 1}, times=12), {"v1a": 11, "UNAVAILABLE": 1}),
        (Asked(path="/a/b", expected={"v1": 1}, times=12), {"v1a": 11}),
        (Asked(path="/a/b", expected={"v1": 1}, times=40), {"v1a": 40}),
        (Asked(path="/a/b", expected={"v1": 0.9, "v2": 0.1}, times=400), {"v1a": 300, "v2a": 100}),
        (Asked(path="/a/b", expected={"UNAVAILABLE": 1}, times=1), {"UNKNOWN": 1}),
        (Asked(path="/a/b", stays=("v1", "v2"), times=12), {"v1a": 11, "v2a": 1}),
        (Asked(path="/a/b", stays=("v1", "v2"), times=12), {"old": 12}),
    ],
)
def test_answers_that_are_not_as_expected_are_found(asked: Asked, answers: dict[str, int]) -> None:
    with pytest.raises(AssertionError):
        asked.check(Counter(answers))


def test_names_of_cases_are_told_apart() -> None:
    assert len({case.name for case in CASES}) == len(CASES)
