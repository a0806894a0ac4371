"""One endpoint in several layouts: announced, repaired, withdrawn and read as one."""

import anyio
import pytest

from meshkit.discovery import RegistrationState
from meshkit.endpoint import Endpoint
from meshkit.errors import ConfigError
from meshkit.events import EndpointRegistered, EndpointTakenOver
from meshkit.registry.layouts import make_layout
from meshkit.registry.registry import Registry
from tests.registry.tasks.fakes import Bench, endpoint

pytestmark = pytest.mark.anyio

NAMES = ("kratos", "go-zero", "kitex")
ENDPOINT = Endpoint(service="hello", id="a", address="10.0.0.5:1")
KEYS = {
    "meshkit/default/hello/a",
    "/microservices/hello/a",
    "hello/2340832890917691671",
    "kitex/registry-etcd/hello/10.0.0.5:1",
}


def several(bench: Bench, *names: str) -> Registry:
    return bench.make(also=[make_layout(name) for name in names or NAMES])


async def test_all_keys_stand_and_go_under_one_lease_in_one_transaction(bench: Bench):
    registry = several(bench)
    registration = await registry.register([ENDPOINT])
    leases = await bench.store.keys()
    assert leases.keys() == KEYS
    assert set(leases.values()) == {registry.status().lease.id}
    assert len(bench.store.times("put")) == 1
    assert len(bench.events.of(EndpointRegistered)) == 1
    assert await registration.withdraw()
    assert await bench.store.keys() == {}
    assert len(bench.store.times("delete")) <= 1
    await registry.aclose()


@pytest.mark.parametrize("key", sorted(KEYS))
async def test_each_key_is_looked_after(bench: Bench, key):
    registry = several(bench)
    registration = await registry.register([ENDPOINT])
    bench.store.inner.erase(key)
    with anyio.fail_after(6):
        while key not in await bench.store.keys():
            await anyio.sleep(0.1)
    assert registration.state is RegistrationState.ANNOUNCED
    assert len(bench.events.of(EndpointRegistered)) == 2
    await registry.aclose()


async def test_somebody_else_on_one_of_the_keys(bench: Bench):
    """Who takes one key gets it; we go on under another id, in all layouts."""
    registry = several(bench, "kratos")
    registration = await registry.register([ENDPOINT])
    lease = (await bench.store.inner.grant(60)).lease
    await bench.store.inner.put({"/microservices/hello/a": b"theirs"}, lease=lease)
    await anyio.sleep(6)
    assert len(bench.events.of(EndpointTakenOver)) == 1
    [ours] = registration.endpoints
    assert ours.id != "a"
    assert await bench.store.keys() == {
        "/microservices/hello/a": lease,
        f"/microservices/hello/{ours.id}": registry.status().lease.id,
        f"meshkit/default/hello/{ours.id}": registry.status().lease.id,
    }
    await registry.aclose()


async def test_what_one_layout_cannot_say_is_refused(bench: Bench):
    with pytest.raises(ConfigError, match="layout kitex has no weight 0"):
        await several(bench).register([endpoint("a", weight=0)])
    assert await bench.store.keys() == {}


async def test_what_is_written_besides_is_read_by_its_own_readers(bench: Bench):
    registry, reader = several(bench), bench.make(layout=make_layout("kratos"))
    await registry.register([ENDPOINT])
    assert [e.address for e in await reader.endpoints("hello")] == ["10.0.0.5:1"]
    assert len(await registry.endpoints("hello")) == 1
    await reader.aclose()
    await registry.aclose()


OTHERS = {
    "hello/7587883412345678901": b"10.0.0.6:1",
    "/microservices/hello/k": b'{"id":"k","name":"hello","endpoints":["grpc://10.0.0.7:1"]}',
    "/microservices/more/m": b'{"id":"m","name":"more","endpoints":["grpc://10.0.0.8:1"]}',
}


def reading(bench: Bench, *names: str) -> Registry:
    return bench.make(
        also=[make_layout(each) for each in NAMES], read=list(map(make_layout, names))
    )


def ids(watch):
    return [each.id for each in watch.latest.value.endpoints]


async def test_endpoints_of_all_layouts_are_one_set(bench: Bench):
    """An endpoint of ours that stands in several of them is in it once, with all it says."""
    registry = reading(bench, "kratos", "go-zero")
    await bench.store.inner.put(OTHERS, lease=0)
    registration = await registry.register([ENDPOINT])
    with registry.watch("hello") as watch:
        await anyio.sleep(0.1)
        assert ids(watch) == ["10.0.0.6:1", "a", "k"]
        assert registry.status().watches["hello"].layouts == {
            "10.0.0.6:1": "go-zero",
            "a": "meshkit",
            "k": "kratos",
        }
        assert list(await registry.endpoints("hello")) == list(watch.latest.value.endpoints)
        assert await registry.services() == ("hello", "kitex", "more")  # go-zero has no prefix
        assert len(bench.store.times("watch")) == 1
        await registration.withdraw()
        await anyio.sleep(0.1)
        assert ids(watch) == ["10.0.0.6:1", "k"]
        await bench.store.inner.delete(["hello/7587883412345678901"])
        await anyio.sleep(0.1)
        assert ids(watch) == ["k"]
    await registry.aclose()


async def test_names_of_services_in_all_layouts(bench: Bench):
    registry = reading(bench, "kratos")
    names = registry.watch_services()
    await bench.store.inner.put(OTHERS, lease=0)
    await bench.write("a", service="ours")
    await anyio.sleep(0.1)
    assert names.value == {"hello", "more", "ours"}
    await registry.aclose()


async def test_the_last_server_of_one_layout_may_leave(bench: Bench):
    """It is believed, as nobody else's absence is: others renew their leases in another layout."""
    registry = reading(bench, "kratos")
    leases = [(await bench.store.inner.grant(60)).lease for _ in range(2)]
    theirs = dict([make_layout("kratos").encode("default", endpoint("k"))])
    await bench.store.inner.put(theirs, lease=leases[0])
    await bench.write("a", lease=leases[1])
    with registry.watch("hello") as watch:
        await anyio.sleep(0.1)
        assert ids(watch) == ["a", "k"]
        await bench.store.inner.revoke(leases[0])
        await anyio.sleep(0.1)
        assert ids(watch) == ["a"]
    await registry.aclose()
