from __future__ import annotations

from collections.abc import Iterator

import pytest

from meshkit.testing.etcd import EtcdProcess, find_etcd


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def etcd() -> Iterator[EtcdProcess]:
    """A running etcd for all tests of a worker: use keys of your own, and do it no harm."""
    if find_etcd() is None:
        pytest.skip("no etcd here")
    with EtcdProcess() as process:
        yield process
