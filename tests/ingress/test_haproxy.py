"""HAProxy with the configuration of examples/proxies, as it stands, follows the registry."""

from __future__ import annotations

from collections import Counter
from contextlib import AsyncExitStack

import anyio
import grpc
import pytest

from meshkit import Mesh
from meshkit.testing import free_ports
from tests.ingress.proxies import CONFIGURATIONS, binary, greeted, running, seconds_until
from tests.mesh.greeters import AT_ONCE, Greeter

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]


@pytest.fixture
async def mesh(mesh_url):
    async with Mesh(mesh_url) as mesh:
        yield mesh


@pytest.fixture
async def channel(mesh):
    """Through an HAProxy that was started before anybody registered."""
    haproxy, file = binary("haproxy"), CONFIGURATIONS / "haproxy.cfg"
    [port] = free_ports(1)
    async with mesh.dns() as responder:
        environ = {"PORT": str(port), "DNS_PORT": str(responder.port)}
        with running(haproxy, "-db", "-q", "-f", str(file), **environ):
            options = [("grpc.max_reconnect_backoff_ms", 100)]
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options) as channel:
                yield channel


def serve(mesh, name, **keywords):
    return mesh.serve("hello_service", Greeter(name), quiet=AT_ONCE, **keywords)


async def counted(channel, calls):
    return Counter([await greeted(channel) for _ in range(calls)])


async def test_a_change_is_followed_within_300_ms(mesh, channel):
    took = []
    async with serve(mesh, "first"):
        await seconds_until(channel, "first")
        for name in ("a", "b", "c", "d", "e"):
            async with serve(mesh, name):
                took.append(await seconds_until(channel, name))
    # It asks every 200 ms; a busy machine may be late now and then.
    assert sorted(took)[2] < 0.3, took


async def test_weights_are_respected_within_10_percent(mesh, channel):
    async with serve(mesh, "heavy", weight=30), serve(mesh, "light", weight=10):
        await seconds_until(channel, "heavy")
        await seconds_until(channel, "light")
        counts = await counted(channel, 400)
    assert counts["heavy"] == pytest.approx(300, abs=30)
    assert counts["light"] == pytest.approx(100, abs=10)


async def test_a_server_that_leaves_loses_no_call(mesh, channel):
    async with serve(mesh, "stays"), AsyncExitStack() as leaving:
        await leaving.enter_async_context(mesh.serve("hello_service", Greeter("leaves")))
        await seconds_until(channel, "stays")
        await seconds_until(channel, "leaves")
        answers = []

        async def call():
            while not done:
                answers.append(await greeted(channel))

        done = False
        async with anyio.create_task_group() as group:
            for _ in range(4):
                group.start_soon(call)
            await leaving.aclose()
            done = True
        assert "leaves" in answers
        assert await counted(channel, 20) == {"stays": 20}


async def test_the_last_known_servers_stay_without_the_responder(mesh_url):
    haproxy, file = binary("haproxy"), CONFIGURATIONS / "haproxy.cfg"
    [port] = free_ports(1)
    async with Mesh(mesh_url) as mesh, serve(mesh, "one"), AsyncExitStack() as stack:
        responder = await stack.enter_async_context(mesh.dns())
        environ = {"PORT": str(port), "DNS_PORT": str(responder.port)}
        with running(haproxy, "-db", "-q", "-f", str(file), **environ):
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                await seconds_until(channel, "one")
                await stack.aclose()
                await anyio.sleep(1.0)  # five questions without an answer
                assert await counted(channel, 20) == {"one": 20}


async def test_nobody_left_is_followed_too(mesh, channel):
    async with serve(mesh, "one"):
        await seconds_until(channel, "one")
    with anyio.fail_after(20):
        while True:
            try:
                await greeted(channel)
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.UNAVAILABLE and "503" in error.details():
                    break
            await anyio.sleep(0.02)
    async with serve(mesh, "two"):
        await seconds_until(channel, "two")
