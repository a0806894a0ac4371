"""Programs in Go, built when the first test asks for one."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.interop.build import AbsentError, build_greeting, build_programs
from tests.interop.programs import FRAMEWORKS, NAME, Framework


@pytest.fixture(params=FRAMEWORKS, ids=NAME)
def framework(request: pytest.FixtureRequest) -> Framework:
    return request.param


@pytest.fixture(scope="session")
def programs() -> Path:
    """The folder of the programs; whoever asks is skipped where they cannot be built."""
    return _built(build_programs)


@pytest.fixture(scope="session")
def greeting() -> Path:
    """The program of examples/three_models; the same holds for it."""
    return _built(build_greeting)


def _built(build: Callable[[], Path]) -> Path:
    try:
        return build()
    except AbsentError as error:
        pytest.skip(str(error))
