"""`meshkit gateway` as users start it, with a real Envoy."""

from __future__ import annotations

import contextlib
import os
import signal
from collections import Counter
from pathlib import Path

import anyio
import grpc
import pytest
import trustme

from meshkit import Mesh
from meshkit.testing import free_ports
from tests.examples.programs import program
from tests.ingress.proxies import greeted, seconds_until
from tests.mesh.greeters import AT_ONCE, Greeter

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.timeout(120),
    pytest.mark.envoy,
    pytest.mark.usefixtures("envoy_binary"),
]


@pytest.fixture
def registry(tmp_path):
    return f"local://{tmp_path}/registry.db"


@pytest.fixture
async def mesh(registry):
    async with Mesh(registry) as mesh:
        yield mesh


def serve(mesh, name, **keywords):
    return mesh.serve("hello_service", Greeter(name), **({"quiet": AT_ONCE} | keywords))


@contextlib.asynccontextmanager
async def gateway(registry, *flags, port=None):
    """A gateway that listens; the program and its port."""
    port = port or free_ports(1)[0]
    words = ("meshkit", "gateway", "--concurrency", "1", "--listen", f"127.0.0.1:{port}")
    async with program(*words, *flags, registry=registry) as running:
        assert await running.until("gateway on") == f"gateway on 127.0.0.1:{port}"
        yield running, port


def client(port, service="hello_service", **more):
    options = {
        "grpc.default_authority": service,
        "grpc.use_local_subchannel_pool": 1,
        "grpc.max_reconnect_backoff_ms": 100,
    }
    return grpc.aio.insecure_channel(f"127.0.0.1:{port}", list((options | more).items()))


async def test_a_gateway_that_was_there_first_serves_the_moment_one_registers(registry, mesh):
    async with gateway(registry) as (_, port), client(port) as channel:
        with pytest.raises(grpc.aio.AioRpcError, match="names no service"):
            await greeted(channel)
        async with serve(mesh, "one"):
            assert await seconds_until(channel, "one") < 2.0
            async with serve(mesh, "two"):
                assert await seconds_until(channel, "two") < 2.0


@contextlib.asynccontextmanager
async def greeters(registry, channel):
    """Two servers in processes of their own, which calls reach."""
    words = ("examples.hello.server", "--port", "0")
    async with (
        program(*words, registry=registry) as one,
        program(*words, registry=registry) as other,
    ):
        for server in (one, other):
            address = (await server.until("serving")).split()[-1]
            await seconds_until(channel, f"Hello Ada from {address}")
        yield one, other


@contextlib.asynccontextmanager
async def calling(channel):
    """Calls all the time, for the length of the block; none may fail."""
    done = False

    async def call():
        while not done:
            await greeted(channel, timeout=20.0)

    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(call)
        await anyio.sleep(0.3)
        yield
        await anyio.sleep(0.3)
        done = True


async def test_no_call_is_lost_when_a_server_drains(registry):
    async with (
        gateway(registry) as (_, port),
        client(port) as channel,
        greeters(registry, channel) as (leaves, _),
        calling(channel),
    ):
        assert (await leaves.ended(signal.SIGTERM))[0] == 0


async def test_no_call_is_lost_when_a_server_is_killed_if_calls_may_be_retried(registry, mesh):
    retry = {
        "maxAttempts": 4,
        "initialBackoff": "0.01s",
        "maxBackoff": "0.1s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    config = {"methodConfig": [{"name": [{}], "retryPolicy": retry}]}
    await mesh.configs.publish("hello_service", config)
    async with (
        gateway(registry) as (_, port),
        client(port) as channel,
        greeters(registry, channel) as (dies, _),
        calling(channel),
    ):
        assert (await dies.ended(signal.SIGKILL))[0] == -signal.SIGKILL


async def test_a_port_of_one_service_takes_any_authority(registry, mesh):
    [port] = free_ports(1)
    words = ("meshkit", "gateway", "--concurrency", "1", "--listen")
    async with (
        serve(mesh, "one"),
        program(*words, f"hello_service=127.0.0.1:{port}", registry=registry) as running,
    ):
        await running.until("gateway on")
        async with client(port, "whatever") as channel:
            await seconds_until(channel, "one")


async def test_only_the_services_that_are_named(registry, mesh):
    async with (
        serve(mesh, "one"),
        mesh.serve("other", Greeter("other"), quiet=AT_ONCE),
        gateway(registry, "--service", "hello_service") as (_, port),
        client(port) as channel,
        client(port, "other") as other,
    ):
        await seconds_until(channel, "one")
        with pytest.raises(grpc.aio.AioRpcError, match="names no service"):
            await greeted(other)


async def test_two_gateways_follow_one_another_on_a_port_without_loss(registry, mesh):
    """As in an update: the new one is started, then the old one gets SIGTERM."""
    answers = Counter()

    async def call(pause):
        async with client(port) as channel:
            while not done:
                answers[await greeted(channel)] += 1
                await anyio.sleep(pause)

    done = False
    async with serve(mesh, "one"), gateway(registry) as (old, port):
        async with client(port) as channel:
            await seconds_until(channel, "one")
        async with anyio.create_task_group() as group:
            for pause in (0.0, 0.0, 0.05, 0.3):
                group.start_soon(call, pause)
            async with gateway(registry, port=port):
                code, _ = await old.ended(signal.SIGTERM)
                assert (code, old.lines[-1]) == (0, "leaving")
                await anyio.sleep(0.5)
                done = True
                await anyio.sleep(0.5)
    assert answers["one"] > 10


async def test_the_second_signal_ends_it_at_once(registry, mesh):
    async with (
        serve(mesh, "one"),
        gateway(registry, "--drain-delay", "60") as (running, port),
        client(port) as channel,
    ):
        await seconds_until(channel, "one")  # is connected, and would be waited for
        os.kill(running.pid, signal.SIGTERM)
        await running.until("leaving")
        with anyio.fail_after(20):
            assert (await running.ended(signal.SIGTERM))[0] == 0


async def test_the_envoy_ends_with_its_parent_and_the_parent_with_it(registry, mesh):
    async with gateway(registry) as (running, _):
        [envoy] = children(running.pid)
        os.kill(envoy, signal.SIGKILL)
        code, errors = await running.ended()
        assert code == 1
        assert "Envoy ended by itself, exit status 137" in errors
    async with gateway(registry) as (running, _):
        [envoy] = children(running.pid)
        await running.ended(signal.SIGKILL)
        with anyio.fail_after(20):
            while is_alive(envoy):
                await anyio.sleep(0.02)


def children(pid):
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_tls(registry, mesh, tmp_path):
    authority = trustme.CA()
    certificate, mine = authority.issue_cert("hello"), authority.issue_cert("client")
    cert, key, ca = (tmp_path / name for name in ("cert", "key", "ca"))
    certificate.cert_chain_pems[0].write_to_path(cert)
    certificate.private_key_pem.write_to_path(key)
    authority.cert_pem.write_to_path(ca)
    pair = {
        "private_key": mine.private_key_pem.bytes(),
        "certificate_chain": mine.cert_chain_pems[0].bytes(),
    }
    files = ("--tls-cert", str(cert), "--tls-key", str(key), "--tls-ca", str(ca))
    options = [("grpc.default_authority", "hello")]
    async with (
        mesh.serve("hello", Greeter(), quiet=AT_ONCE),
        gateway(registry, *files) as (_, port),
    ):
        for more, is_known in ((pair, True), ({}, False)):
            credentials = grpc.ssl_channel_credentials(authority.cert_pem.bytes(), **more)
            target = f"127.0.0.1:{port}"
            async with grpc.aio.secure_channel(target, credentials, options) as channel:
                if is_known:
                    await seconds_until(channel, "one")
                else:
                    with pytest.raises(grpc.aio.AioRpcError):
                        await greeted(channel)


async def test_with_a_control_plane_elsewhere(registry, mesh):
    async with (
        serve(mesh, "one"),
        mesh.xds("127.0.0.1:0") as plane,
        gateway("memory://nothing-here", "--xds", plane.address) as (_, port),
        client(port) as channel,
    ):
        await seconds_until(channel, "one")
