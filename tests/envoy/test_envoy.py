"""A real Envoy with a fixed configuration: asked, drained, ill."""

from __future__ import annotations

import contextlib

import anyio
import grpc
import pytest

from meshkit import Mesh
from meshkit.envoy import Drain, EnvoyFlags, envoy
from meshkit.envoy.admin import Admin, InUse
from meshkit.testing import free_ports
from tests.ingress.proxies import greeted
from tests.mesh.greeters import AT_ONCE, Greeter

pytestmark = [pytest.mark.anyio, pytest.mark.envoy, pytest.mark.timeout(120)]

TYPE = "type.googleapis.com/envoy.extensions"
FLAGS = EnvoyFlags(concurrency=1)


def address(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def bootstrap(port, server, **more):
    """One port, one server behind it."""
    protocol = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    options = {"@type": f"type.googleapis.com/{protocol}"}
    options["explicit_http_config"] = {"http2_protocol_options": {}}
    cluster = {
        "name": "hello",
        "load_assignment": {
            "cluster_name": "hello",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(server)}}]}],
        },
        "typed_extension_protocol_options": {protocol: options},
    }
    route = {"match": {"prefix": ""}, "route": {"cluster": "hello", "timeout": "0s"}}
    router = {"@type": f"{TYPE}.filters.http.router.v3.Router"}
    http = "filters.network.http_connection_manager.v3.HttpConnectionManager"
    manager = {
        "@type": f"{TYPE}.{http}",
        "stat_prefix": "calls",
        "codec_type": "HTTP2",
        "route_config": {"virtual_hosts": [{"name": "a", "domains": ["*"], "routes": [route]}]},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": router}],
    }
    chain = {"filters": [{"name": "envoy.http_connection_manager", "typed_config": manager}]}
    listener = {"address": address(port), "filter_chains": [chain]}
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}, **more}


@pytest.fixture
async def server(mesh_url):
    """The port of a greeter."""
    async with Mesh(mesh_url) as mesh:
        greeter = Greeter()
        async with mesh.serve("hello", greeter, quiet=AT_ONCE, host="127.0.0.1") as server:
            yield int(server.address.rpartition(":")[2])


@contextlib.asynccontextmanager
async def client(port):
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_reconnect_backoff_ms", 100)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options) as channel:
        yield channel


@pytest.mark.parametrize("has_page", [False, True])
async def test_it_serves_and_tells_how_much_it_is_used(envoy_binary, server, has_page):
    port, page = free_ports(2)
    more = {"admin": {"address": address(page)}} if has_page else {}
    async with envoy(envoy_binary, bootstrap(port, server, **more), FLAGS) as running:
        with anyio.fail_after(20):
            await running.ready()
        async with client(port) as channel:
            assert await greeted(channel) == "one"
            assert await running._admin.in_use() == InUse(connections=1, calls=0)


async def test_clients_lose_no_call_when_it_leaves_and_another_one_is_there(envoy_binary, server):
    [port] = free_ports(1)
    config = bootstrap(port, server)
    answers = []

    async def call(pause):
        async with client(port) as channel:
            while not done:
                answers.append(await greeted(channel))
                await anyio.sleep(pause)

    done = False
    async with envoy(envoy_binary, config, FLAGS) as leaving:
        await leaving.ready()
        async with anyio.create_task_group() as group:
            for pause in (0.0, 0.0, 0.05, 0.3):
                group.start_soon(call, pause)
            await anyio.sleep(0.2)
            async with envoy(envoy_binary, config, FLAGS) as staying:
                await staying.ready()
                with anyio.fail_after(20):
                    await leaving.drain(Drain(delay=10.0, grace=10.0))
                    assert await leaving.program.ended() == 0
                before = len(answers)
                await anyio.sleep(0.5)
                assert len(answers) > before + 4  # by the one that stays
                done = True
                await anyio.sleep(0.5)


async def test_a_call_may_finish(envoy_binary, server):
    [port] = free_ports(1)
    async with envoy(envoy_binary, bootstrap(port, server), FLAGS) as running:
        await running.ready()
        async with client(port) as channel, anyio.create_task_group() as group:
            answers = []

            async def slow():
                answers.append(await greeted(channel, "2", timeout=20.0))  # seconds

            await greeted(channel)
            group.start_soon(slow)
            await anyio.sleep(0.3)
            await running.drain(Drain(delay=0.0, grace=20.0))
            await running.program.ended()
        assert answers == ["one"]


async def test_one_that_cannot_be_asked_is_ended(envoy_binary, server, monkeypatch):
    [port] = free_ports(1)
    async with envoy(envoy_binary, bootstrap(port, server), FLAGS) as running:
        await running.ready()
        monkeypatch.setattr(running, "_admin", Admin(("127.0.0.1", 1)))
        await running.drain(Drain(delay=30.0, grace=30.0))
        with anyio.fail_after(20):
            await running.program.ended()
