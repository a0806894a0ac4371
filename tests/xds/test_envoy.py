"""A real Envoy against a control plane: it takes all it is sent, in both variants."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest

from meshkit import Mesh
from meshkit.balancer import POLICIES
from meshkit.testing import free_ports
from tests.mesh.greeters import AT_ONCE, Greeter
from tests.xds.envoy_client import envoy_client
from tests.xds.world import SERVICE, eventually, world

pytestmark = [pytest.mark.anyio, pytest.mark.envoy]

BOTH = pytest.mark.parametrize("delta", [False, True], ids=["sotw", "delta"])


@BOTH
async def test_it_takes_every_policy_and_servers_that_come_and_go(delta):
    async with (
        world(f"envoy-policies-{delta}") as here,
        envoy_client(here.address, delta=delta) as it,
    ):
        assert await it.call() == {"UNAVAILABLE": 1}
        await here.serve("a")
        await eventually(lambda: it.call(), lambda found: found == {"a": 1})
        for name in POLICIES:
            await here.mesh.configs.publish(SERVICE, {"loadBalancingConfig": [{name: {}}]})
            async with here.serving("b"):
                if name not in {"ring_hash", "ring_hash_experimental", "maglev", "sticky"}:
                    await eventually(lambda: it.call(20), lambda found: set(found) == {"a", "b"})
            await eventually(lambda: it.call(5), lambda found: found == {"a": 5})
        assert await it.stats() == (0, 0)


@BOTH
async def test_shares_of_versions_and_headers(delta):
    config = {
        "routes": [
            {
                "match": {"headers": [{"name": "x-canary", "prefix": "y"}]},
                "destinations": [{"version": "v2"}],
            },
            {"destinations": [{"version": "v1", "weight": 90}, {"version": "v2", "weight": 10}]},
        ],
        "loadBalancingConfig": [{"round_robin": {}}],
    }
    async with (
        world(f"envoy-routes-{delta}") as here,
        envoy_client(here.address, delta=delta) as it,
    ):
        await here.serve("one", version="v1")
        await here.serve("two", version="v2")
        await eventually(lambda: it.call(10), lambda found: found == {"one": 5, "two": 5})
        await here.mesh.configs.publish(SERVICE, config)
        await eventually(lambda: it.call(10, x_canary="yes"), lambda found: found == {"two": 10})
        found = await it.call(400)
        assert set(found) == {"one", "two"}
        assert 10 < found["two"] < 80  # 40; five standard deviations
        await here.mesh.configs.withdraw(SERVICE)
        await eventually(lambda: it.call(10), lambda found: found == {"one": 5, "two": 5})
        assert await it.stats() == (0, 0)


@BOTH
async def test_no_call_fails_while_routes_change(delta):
    """New clusters are there before routes name them, old ones until none does."""
    async with (
        world(f"envoy-change-{delta}") as here,
        envoy_client(here.address, delta=delta) as it,
    ):
        await here.serve("one", version="v1")
        await here.serve("two", version="v2")
        await eventually(lambda: it.call(), lambda found: "UNAVAILABLE" not in found)
        for number in range(10):
            version = f"v{number % 2 + 1}"
            config = {"routes": [{"destinations": [{"version": version}]}]}
            await here.mesh.configs.publish(SERVICE, config)
            assert not set(await it.call(20)) - {"one", "two"}
            await here.mesh.configs.withdraw(SERVICE)
            assert not set(await it.call(20)) - {"one", "two"}


@BOTH
async def test_the_control_plane_may_die_and_come_back(delta):
    [port] = free_ports(1)
    bind = f"127.0.0.1:{port}"
    async with Mesh(f"memory://envoy-restart-{delta}") as mesh, AsyncExitStack() as stack:

        async def serve(name):
            await stack.enter_async_context(mesh.serve(SERVICE, Greeter(name), quiet=AT_ONCE))

        await serve("a")
        async with mesh.xds(bind):
            it = await stack.enter_async_context(envoy_client(bind, delta=delta))
            await eventually(lambda: it.call(), lambda found: found == {"a": 1})
        assert await it.call(20) == {"a": 20}
        await serve("b")
        async with mesh.xds(bind):
            await eventually(lambda: it.call(20), lambda found: set(found) == {"a", "b"})
            assert await it.stats() == (0, 0)
