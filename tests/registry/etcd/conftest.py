import random
import uuid
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from meshkit.registry.etcd import EtcdOptions, EtcdStore
from meshkit.testing.cluster import etcd_cluster
from meshkit.testing.etcd import EtcdProcess


class First(random.Random):
    """Dice that begin with the first endpoint."""

    def randrange(self, *args: int) -> int:  # type: ignore[override]
        return 0


MakeStore = Callable[..., EtcdStore]


@pytest.fixture
async def make_store() -> AsyncIterator[MakeStore]:
    """`make_store(endpoint, ..., **options)`; closes what it made."""
    made: list[EtcdStore] = []

    def make(*endpoints: str, **options: object) -> EtcdStore:
        made.append(EtcdStore(EtcdOptions(endpoints=endpoints, **options), rng=First()))
        return made[-1]

    yield make
    for store in made:
        await store.aclose()


@pytest.fixture
def store(etcd: EtcdProcess, make_store: MakeStore) -> EtcdStore:
    return make_store(etcd.endpoint)


@pytest.fixture
def prefix() -> str:
    return f"test/{uuid.uuid4().hex}/"


@pytest.fixture
def own_etcd() -> Iterator[EtcdProcess]:
    """An etcd that the test may hurt."""
    with EtcdProcess() as process:
        yield process


@pytest.fixture
def cluster() -> Iterator[list[EtcdProcess]]:
    with etcd_cluster() as members:
        yield members
