from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import hypothesis
import pytest

from meshkit.testing.etcd import EtcdProcess, find_etcd

# Nothing that one test learns may help another one; tests of the cache give a directory.
os.environ["MESHKIT_CACHE"] = "off"

# How long an example takes is the machine's business; pytest-timeout ends a test that hangs.
hypothesis.settings.register_profile("meshkit", deadline=None)
hypothesis.settings.load_profile("meshkit")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def etcd_of_worker() -> Iterator[EtcdProcess]:
    if find_etcd() is None:
        pytest.skip("no etcd here")
    with EtcdProcess() as process:
        yield process


@pytest.fixture
def etcd(etcd_of_worker: EtcdProcess, request: pytest.FixtureRequest) -> EtcdProcess:
    """A running etcd for all tests of a worker: use keys of your own, and do it no harm."""
    if (status := etcd_of_worker.exit_status) is not None:
        # Who ended it failed, and nobody else has to.
        told = f"before {request.node.nodeid}: etcd had ended with {status}; its last words: "
        print(told, etcd_of_worker.last_words, file=sys.__stderr__)
        etcd_of_worker.restart()
    return etcd_of_worker
