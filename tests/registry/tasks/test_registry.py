import asyncio

import anyio
import pytest

from meshkit.discovery import RegistrationState
from meshkit.errors import ConfigError, MeshClosedError, RegistryUnavailable
from meshkit.events import EndpointWithdrawn, RegistryConnected, RegistryDisconnected
from meshkit.registry.layouts import Etcd3NamingLayout
from meshkit.registry.status import (
    LeaseStatus,
    RegistrationStatus,
    RegistryStatus,
    WatchStatus,
)
from tests.registry.tasks.fakes import Bench, down, endpoint, key, names

pytestmark = pytest.mark.anyio


def tasks() -> list[str]:
    return sorted(t.get_name() for t in asyncio.all_tasks() if t.get_name().startswith("meshkit"))


async def test_what_one_registers_another_watches(bench: Bench):
    with bench.make().watch("hello") as watch:
        registration = await bench.registry.register([endpoint("a")])
        await anyio.sleep(0.1)
        assert names(watch) == ["a"]
        await registration.withdraw()
        await anyio.sleep(0.1)
        assert names(watch) == []


async def test_holders_share_one_watch_as_long_as_there_are_any(bench: Bench):
    registry = bench.registry
    with registry.watch("hello") as first:
        with registry.watch("hello") as second, registry.watch("other") as third:
            assert second is first
            assert third is not first
            await anyio.sleep(0.1)
            assert tasks() == ["meshkit supervisor", "meshkit watch hello", "meshkit watch other"]
        await anyio.sleep(0.1)
        assert tasks() == ["meshkit supervisor", "meshkit watch hello"]
    await anyio.sleep(0.1)
    assert tasks() == ["meshkit supervisor"]
    with registry.watch("hello") as again:
        assert again is not first
        await anyio.sleep(0.1)
        assert names(again) == []


async def test_a_watch_that_ends_at_once_leaves_nothing(bench: Bench):
    with bench.registry.watch("hello"):
        pass
    with pytest.raises(ZeroDivisionError), bench.registry.watch("hello"):
        raise ZeroDivisionError
    await anyio.sleep(0.1)
    assert tasks() == ["meshkit supervisor"]


async def test_an_outage_is_told_once_whoever_meets_it(bench: Bench):
    registry = bench.registry
    await registry.register([endpoint("a")])
    with registry.watch("hello"), registry.watch("b"), registry.watch("c"):
        await anyio.sleep(1)
        bench.store.go_down()
        await anyio.sleep(60)
        status = registry.status()
        assert (status.connected, status.reason) == (False, "connect refused")
        assert status.outage == pytest.approx(60, abs=0.5)
        bench.store.come_back()
        await anyio.sleep(10)
        assert (registry.status().connected, registry.status().outage) == (True, None)
    assert len(bench.events.of(RegistryDisconnected)) == 1
    (connected,) = bench.events.of(RegistryConnected)
    assert connected.outage == pytest.approx(61, abs=3)


async def test_the_next_outage_is_another_one(bench: Bench):
    with bench.registry.watch("hello"):
        for _ in range(2):
            bench.store.go_down()
            await anyio.sleep(10)
            bench.store.come_back()
            await anyio.sleep(10)
    assert len(bench.events.of(RegistryDisconnected)) == 2
    assert len(bench.events.of(RegistryConnected)) == 2


async def test_who_leaves_in_trouble_does_not_end_the_outage_of_others(bench: Bench):
    bench.store.go_down()
    with bench.registry.watch("b"):
        with bench.registry.watch("a"):
            await anyio.sleep(5)
        assert not bench.registry.status().connected
    assert bench.registry.status().connected, "nobody is left to say otherwise"
    assert not bench.events.of(RegistryConnected)


async def test_status(bench: Bench):
    await bench.registry.register([endpoint("a")])
    with bench.registry.watch("hello"), bench.registry.watch("other"):
        assert bench.registry.status().watches["hello"] == WatchStatus(
            total=None, unconfirmed=0, age=None
        )
        await anyio.sleep(2)
        status = bench.registry.status()
    assert status == RegistryStatus(
        registry="fake://registry",
        namespace="default",
        watches={
            "hello": WatchStatus(total=1, unconfirmed=0, age=2.0),
            "other": WatchStatus(total=0, unconfirmed=0, age=2.0),
        },
        registrations=(
            RegistrationStatus(
                endpoint=endpoint("a"), state=RegistrationState.ANNOUNCED, outage=None
            ),
        ),
        lease=LeaseStatus(id=1, left=13.0),
    )


async def test_the_status_of_a_registration_and_the_length_of_its_outage(bench: Bench):
    def seen():
        [status] = bench.registry.status().registrations
        return status.state.value, status.outage and round(status.outage)

    bench.store.go_down()
    await bench.registry.register([endpoint("a")], required=False)
    await anyio.sleep(30)
    assert seen() == ("pending", 30)
    bench.store.come_back()
    await anyio.sleep(6)
    assert seen() == ("announced", None)
    bench.store.go_down()
    await anyio.sleep(100)
    state, outage = seen()
    assert state == "unconfirmed"
    assert 100 <= outage <= 105, "since the last renewal"
    bench.store.come_back()
    bench.store.faults["put"] = down
    await anyio.sleep(6)
    state, longer = seen()
    assert state == "lost"
    assert longer == pytest.approx(outage + 6, abs=1)
    bench.store.come_back()
    await anyio.sleep(6)
    assert seen() == ("announced", None)


async def test_endpoints_and_services_are_one_request_each(bench: Bench):
    await bench.write("a", "b")
    await bench.write("c", service="other")
    await bench.store.inner.put({key("bad"): b"?", "meshkit/prod/x/y": b"?"}, lease=0)
    assert [e.id for e in await bench.registry.endpoints("hello")] == ["a", "b"]
    assert len(await bench.registry.endpoints("nobody")) == 0
    assert await bench.registry.services() == ("hello", "other")
    assert bench.events == []
    bench.store.go_down()
    with pytest.raises(RegistryUnavailable):
        await bench.registry.endpoints("hello")


async def test_what_cannot_be_asked(bench: Bench):
    for name in ("", "a/b", "a b"):
        with pytest.raises(ConfigError), bench.registry.watch(name):
            pass
        with pytest.raises(ConfigError):
            await bench.registry.endpoints(name)
    for options in ({"ttl": 0.0}, {"ttl": float("nan")}, {"namespace": "a/b"}):
        with pytest.raises(ConfigError):
            bench.make(**options)
    with pytest.raises(ConfigError, match="no namespaces"):
        bench.make(layout=Etcd3NamingLayout(), namespace="prod")


async def test_who_it_is(bench: Bench):
    registry = bench.make(namespace="prod")
    assert (registry.name, registry.namespace) == ("fake://registry", "prod")
    assert registry.peer == ("10.0.0.9", 2379)


async def test_close_withdraws_ends_and_closes(bench: Bench):
    await bench.registry.register([endpoint("a")])
    with bench.registry.watch("hello"):
        await anyio.sleep(1)
        await bench.registry.aclose()
        assert tasks() == ["meshkit supervisor"]
    assert await bench.store.keys() == {}
    assert bench.store.closed == 1
    assert bench.events[-1] == EndpointWithdrawn(endpoint("a"), bench.store.name, confirmed=True)
    with pytest.raises(MeshClosedError), bench.registry.watch("hello"):
        pass
    with pytest.raises(MeshClosedError):
        await bench.registry.register([endpoint("a")])
    unused = bench.make()
    await unused.aclose()
    with pytest.raises(MeshClosedError):
        await unused.register([endpoint("a")])
    await bench.registry.aclose()
    assert tasks() == ["meshkit supervisor"]


@pytest.mark.parametrize("fault", ["hang", down])
async def test_close_is_bounded_whatever_the_registry_does(bench: Bench, fault):
    registry = bench.registry
    await registry.register([endpoint("a")])
    await registry.register([endpoint("b")])
    with registry.watch("hello"):
        await anyio.sleep(1)
        bench.store.faults["*"] = fault
        bench.store.faults["aclose"] = "hang"
        began = anyio.current_time()
        await registry.aclose()
        assert anyio.current_time() - began <= 4.1
    assert tasks() == ["meshkit supervisor"]
    assert [e.confirmed for e in bench.events.of(EndpointWithdrawn)] == [False, False]


async def test_closing_what_was_never_used(bench: Bench):
    await bench.make().aclose()
    assert tasks() == ["meshkit supervisor"]
