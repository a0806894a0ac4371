import random

import anyio
import pytest

from meshkit.endpoint import EndpointSet
from meshkit.events import RegistryConnected, RegistryDisconnected
from meshkit.registry.layouts import MeshkitLayout
from meshkit.registry.registry import Registry
from meshkit.tasks import Supervisor
from meshkit.testing.virtual_clock import VirtualClockLoop
from tests.registry.fakes import Events, FaultyStore, endpoint

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio", {"loop_factory": VirtualClockLoop}


@pytest.fixture
async def bench():
    bench = Bench()
    await bench.supervisor.open()
    yield bench
    await bench.registry.aclose()
    await bench.supervisor.aclose()


class Bench:
    def __init__(self) -> None:
        self.store = FaultyStore()
        self.events = Events()
        self.supervisor = Supervisor(self.events.append)
        self.registry = self.make()

    def make(self, **options) -> Registry:
        return Registry(
            self.store,
            MeshkitLayout(),
            emit=self.events.append,
            supervisor=self.supervisor,
            rng=random.Random(7),
            **options,
        )


async def test_what_one_registers_another_watches(bench):
    with bench.registry.watch("hello") as watch:
        registration = await bench.registry.register([endpoint("a")])
        await anyio.sleep(0.1)
        assert [e.address for e in watch.latest.value.endpoints] == ["a:50051"]
        assert await registration.withdraw()
        await anyio.sleep(0.1)
        assert len(watch.latest.value.endpoints) == 0
