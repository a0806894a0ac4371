"""gRPC's own xDS client, in processes of their own, against a control plane."""

from __future__ import annotations

from contextlib import AsyncExitStack

import anyio
import pytest

from meshkit import Mesh, RegistryUnavailable
from meshkit.testing import memory_registry
from meshkit.testing.etcd import free_ports
from tests.mesh.greeters import AT_ONCE, Greeter
from tests.xds.grpc_client import grpc_client
from tests.xds.world import SERVICE, eventually, world

pytestmark = pytest.mark.anyio

ALL_ACKED = {
    f"{kind} {SERVICE}": "ACKED"
    for kind in ("Listener", "RouteConfiguration", "Cluster", "ClusterLoadAssignment")
}


async def test_servers_come_drain_and_go():
    async with world("xds-come-and-go") as here:
        await here.serve("a")
        client = await here.client()
        assert await client.call(10) == {"a": 10}
        assert await client.state() == ALL_ACKED
        async with here.serving("b"):
            await eventually(lambda: client.call(4), lambda found: found == {"a": 2, "b": 2})
        await eventually(lambda: client.call(4), lambda found: found == {"a": 4})
        assert await client.state() == ALL_ACKED


async def test_a_call_waits_for_a_service_that_does_not_exist_yet():
    async with world("xds-ghost") as here:
        client = await here.client()
        [failed] = await client.call()
        assert failed.startswith("UNAVAILABLE")
        assert await client.state() == ALL_ACKED
        async with anyio.create_task_group() as group:
            answers = []

            async def wait():
                answers.append(await client.wait(20))

            group.start_soon(wait)
            await anyio.sleep(0.2)  # it waits by now, or this test shows less
            await here.serve("late")
        assert answers[0]["who"] == "late"


async def test_weights_count():
    async with world("xds-weights") as here:
        for name, weight in (("a", 300), ("b", 100), ("parked", 0)):
            await here.serve(name, weight=weight)
        found = await (await here.client()).call(400)
        assert found.keys() == {"a", "b"}
        assert 250 < found["a"] < 350  # 300; five standard deviations


async def test_a_canary_and_a_header():
    config = {
        "routes": [
            {
                "match": {"headers": [{"name": "x-canary", "exact": "1"}]},
                "destinations": [{"version": "v2"}],
            },
            {"destinations": [{"version": "v1", "weight": 90}, {"version": "v2", "weight": 10}]},
        ]
    }
    async with world("xds-canary") as here:
        await here.serve("one", version="v1")
        await here.serve("two", version="v2")
        client = await here.client()

        def asked():
            return client.call(10, x_canary="1")

        await client.call()
        await here.mesh.configs.publish(SERVICE, config)
        await eventually(asked, lambda found: found == {"two": 10})
        found = await client.call(400)
        assert 10 < found["two"] < 80  # 40; five standard deviations
        assert set((await client.state()).values()) == {"ACKED"}
        await here.mesh.configs.withdraw(SERVICE)
        await eventually(asked, lambda found: len(found) == 2)


async def test_the_control_plane_may_die_and_come_back():
    [port] = free_ports(1)
    bind = f"127.0.0.1:{port}"
    async with Mesh("memory://xds-restart") as mesh, AsyncExitStack() as stack:
        await stack.enter_async_context(mesh.serve(SERVICE, Greeter("a"), quiet=AT_ONCE))
        async with mesh.xds(bind):
            client = await stack.enter_async_context(grpc_client(bind))
            assert await client.call() == {"a": 1}
        assert await client.call(20) == {"a": 20}  # without it, nothing changes
        await stack.enter_async_context(mesh.serve(SERVICE, Greeter("b"), quiet=AT_ONCE))
        async with mesh.xds(bind):
            await eventually(lambda: client.call(4), lambda found: found == {"a": 2, "b": 2})


async def test_the_registry_may_be_away():
    registry = memory_registry("memory://xds-outage")
    async with world("xds-outage") as here:
        await here.serve("a")
        client = await here.client()
        assert await client.call() == {"a": 1}
        registry.cut()
        with pytest.raises(RegistryUnavailable):
            await here.mesh.endpoints(SERVICE)
        assert await client.call(5) == {"a": 5}
        assert await (await here.client()).call(5) == {"a": 5}  # of what is known already
        registry.heal()
        await here.serve("b")
        await eventually(lambda: client.call(4), lambda found: found == {"a": 2, "b": 2})


async def test_calls_stay_in_the_zone_that_can_take_them():
    async with world("xds-zones") as here:
        for number in range(6):
            zone = f"z{number % 2}"
            await here.serve(zone, zone=zone)
        found = await (await here.client(zone="z1")).call(60)
        assert found["z1"] > 50  # all, once its connections stand
        assert len(await (await here.client()).call(60)) == 2
