"""What is published for bad times acts in each kind of client, and a killed control plane does not.

The same shows for gRPC's own client, in a process of its own, and for an Envoy.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
import grpc
import pytest

from examples.hello.helloworld_pb2 import HelloReply
from examples.hello.helloworld_pb2_grpc import GreeterServicer
from meshkit import Mesh
from meshkit.testing import free_ports
from tests.client.fakes import until
from tests.mesh.greeters import AT_ONCE
from tests.xds.envoy_client import envoy_client
from tests.xds.grpc_client import grpc_client
from tests.xds.world import SERVICE, eventually, world

pytestmark = pytest.mark.anyio

ENVOY = pytest.param(envoy_client, marks=pytest.mark.envoy, id="envoy")
RETRIED = {
    "name": [{"service": "helloworld.Greeter"}],
    "retryPolicy": {
        "maxAttempts": 3,
        "initialBackoff": "0.01s",
        "maxBackoff": "0.1s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE"],
    },
}
CLIENTS = pytest.mark.parametrize("client_of", [pytest.param(grpc_client, id="grpc"), ENVOY])


class Troubled(GreeterServicer):
    """Ends each call with `code`, if there is one; those that say "held" wait for `release`."""

    def __init__(self, name, code=None):
        self.name = name
        self.code = code
        self.calls = 0
        self.held = 0
        self.release = asyncio.Event()

    async def SayHello(self, request, context):
        self.calls += 1
        if request.name == "held":
            self.held += 1
            await self.release.wait()
        if self.code is not None:
            await context.abort(self.code, "so it is")
        return HelloReply(message=self.name)


def serving(mesh, servicer):
    return mesh.serve(SERVICE, servicer, quiet=AT_ONCE)


def answered_by_a(least, most):
    """Whether all calls succeed, and so many of them at `a`."""
    return lambda found: found.keys() <= set("ab") and least <= found.get("a", 0) <= most


async def taking_turns(client, names):
    """Return when calls go to all of them."""
    await eventually(lambda: client.call(2 * len(names)), lambda found: len(found) == len(names))


async def ejects_who_fails(here, client, detection):
    """Show that with `detection` the one of three servers that fails gets no more calls."""
    bad = Troubled("bad", grpc.StatusCode.INTERNAL)
    async with (
        serving(here.mesh, Troubled("a")),
        serving(here.mesh, Troubled("b")),
        serving(here.mesh, bad),
    ):
        await here.mesh.configs.publish(SERVICE, {"outlierDetection": detection})
        await eventually(lambda: client.call(30), lambda found: found == {"a": 15, "b": 15})
        before = bad.calls
        assert before >= 3
        assert (await client.call(100)).keys() == {"a", "b"}
        assert bad.calls == before


RULES = {
    "share": {"failurePercentageEjection": {"requestVolume": 3}},
    "rate": {"successRateEjection": {"stdevFactor": 1000, "minimumHosts": 3, "requestVolume": 3}},
    "row": {"consecutiveFailures": 3},
}


@pytest.mark.parametrize(
    ("client_of", "rule"),
    [
        (grpc_client, "share"),
        (grpc_client, "rate"),
        *(pytest.param(envoy_client, rule, marks=pytest.mark.envoy) for rule in RULES),
    ],
)
async def test_who_fails_is_ejected(client_of, rule):
    detection = {
        "interval": "0.5s",
        "baseEjectionTime": "60s",
        "consecutiveFailures": 0,
        "failurePercentageEjection": None,
        **RULES[rule],
    }
    async with (
        world(f"xds-outlier-{client_of.__name__}-{rule}") as here,
        client_of(here.address) as client,
    ):
        await ejects_who_fails(here, client, detection)
        assert await client.accepts_all()


@CLIENTS
async def test_the_only_one_is_never_ejected(client_of):
    share = {"requestVolume": 3, "minimumHosts": 1}
    detection = {"interval": "0.2s", "failurePercentageEjection": share}
    bad = Troubled("bad", grpc.StatusCode.INTERNAL)
    async with (
        world(f"xds-only-{client_of.__name__}") as here,
        client_of(here.address) as client,
        serving(here.mesh, bad),
    ):
        await here.mesh.configs.publish(SERVICE, {"outlierDetection": detection})
        await eventually(client.call, lambda found: "INTERNAL" in str(found))
        ends = anyio.current_time() + 5 * 0.2
        while anyio.current_time() < ends:
            before = bad.calls
            assert sum((await client.call(10)).values()) == bad.calls - before


@CLIENTS
async def test_calls_are_tried_again_elsewhere(client_of):
    detection = {"consecutiveFailures": 0, "failurePercentageEjection": None}
    config = {
        "outlierDetection": detection,
        "methodConfig": [RETRIED],
    }
    bad = Troubled("bad", grpc.StatusCode.UNAVAILABLE)
    async with (
        world(f"xds-retry-{client_of.__name__}") as here,
        client_of(here.address) as client,
        serving(here.mesh, Troubled("a")),
        serving(here.mesh, bad),
    ):
        await here.mesh.configs.publish(SERVICE, {"outlierDetection": detection})
        await taking_turns(client, "a!")
        await here.mesh.configs.publish(SERVICE, config)
        await eventually(lambda: client.call(10), lambda found: found == {"a": 10})
        before = bad.calls
        assert await client.call(20) == {"a": 20}
        assert bad.calls > before
        assert await client.accepts_all()


@CLIENTS
async def test_no_more_calls_than_the_limit_at_a_time(client_of):
    a = Troubled("a")
    async with (
        world(f"xds-limit-{client_of.__name__}") as here,
        client_of(here.address) as client,
        serving(here.mesh, a),
    ):
        await here.mesh.configs.publish(SERVICE, {"circuitBreaker": {"maxRequests": 2}})
        await eventually(client.call, lambda found: found == {"a": 1})
        await client.begin(6)
        refused = await eventually(client.ended, lambda found: sum(found.values()) == 4)
        assert all(status.startswith("UNAVAILABLE") for status in refused)
        await until(lambda: a.held == 2)
        a.release.set()
        ended = await eventually(client.ended, lambda found: sum(found.values()) == 6)
        assert ended == {**refused, "a": 2}
        assert await client.accepts_all()


@CLIENTS
async def test_a_server_that_drains_ends_its_calls_and_gets_no_others(client_of):
    a = Troubled("a")
    async with (
        world(f"xds-drain-{client_of.__name__}") as here,
        client_of(here.address) as client,
        serving(here.mesh, a) as server,
        anyio.create_task_group() as group,
    ):
        await eventually(client.call, lambda found: found == {"a": 1})
        await client.begin()
        await until(lambda: a.held)
        async with serving(here.mesh, Troubled("b")):
            await taking_turns(client, "ab")
            group.start_soon(server.drain)
            await eventually(lambda: client.call(10), lambda found: found == {"b": 10})
            assert await client.ended() == {}
            a.release.set()
            assert await eventually(client.ended, bool) == {"a": 1}
            assert await client.accepts_all()


@CLIENTS
async def test_a_change_of_weight_is_followed(client_of):
    async with (
        world(f"xds-weight-{client_of.__name__}") as here,
        client_of(here.address) as client,
        here.mesh.serve("a", Troubled("a"), quiet=AT_ONCE) as a,
        here.mesh.serve("b", Troubled("b"), quiet=AT_ONCE) as b,
        here.mesh.register(SERVICE, b.address, weight=100),
    ):
        # Of 200 calls 100, then 175 with a standard deviation of 5, then none.
        for weight, least, most in ((100, 75, 125), (700, 150, 199), (0, 0, 0)):
            async with here.mesh.register(SERVICE, a.address, weight=weight):
                await eventually(lambda: client.call(200), answered_by_a(least, most))
        assert await client.accepts_all()


@asynccontextmanager
async def control_plane(url, bind):
    """A control plane in a process of its own; the end of the block kills it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "meshkit", "xds", "serve", "--registry", url, "--bind", bind),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert (await process.stdout.readline()).decode().split()[-1] == bind
        yield
    finally:
        process.kill()
        await process.wait()


@pytest.mark.timeout(120)  # processes start, and a client waits between its tries
@CLIENTS
async def test_a_killed_control_plane_is_missed_by_no_call(client_of, tmp_path):
    url = f"local://{tmp_path}/registry.db"
    [port] = free_ports(1)
    bind = f"127.0.0.1:{port}"
    a, found = Troubled("a"), Counter()
    async with Mesh(url) as mesh, AsyncExitStack() as stack:
        await stack.enter_async_context(serving(mesh, a))
        async with control_plane(url, bind):
            client = await stack.enter_async_context(client_of(bind))
            await eventually(client.call, lambda found: found == {"a": 1})
            await client.begin()
            await until(lambda: a.held)
        assert await client.call(20) == {"a": 20}
        async with control_plane(url, bind):
            assert await client.call(20) == {"a": 20}
            await stack.enter_async_context(serving(mesh, Troubled("b")))
            began = anyio.current_time()
            with anyio.fail_after(30):
                while "b" not in found:
                    found.update(await client.call(2))
            print(f"the news came after {anyio.current_time() - began:.2f} s")
            assert found.keys() == {"a", "b"}
            assert await client.ended() == {}
            a.release.set()
            assert await eventually(client.ended, bool) == {"a": 1}
            assert await client.accepts_all()
