"""The Go program of examples/three_models, by each way there is to hello_service."""

from __future__ import annotations

import signal
from contextlib import AsyncExitStack
from functools import partial

import grpc
import pytest

from examples.hello.helloworld_pb2_grpc import add_GreeterServicer_to_server
from meshkit import Mesh
from meshkit.testing import free_ports
from tests.envoy.conftest import envoy_binary
from tests.examples.programs import bootstrap, program, started
from tests.ingress.proxies import CONFIGURATIONS, binary, running, until_all_answer
from tests.mesh.greeters import Greeter
from tests.xds.world import SERVICE, eventually

__all__ = ["envoy_binary"]

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.interop,
    pytest.mark.etcd,
    pytest.mark.timeout(120, func_only=True),  # not the build
]


@pytest.fixture
def registry(etcd, tmp_path):
    return f"{etcd.url}/{tmp_path.name}"


@pytest.fixture
async def mesh(registry):
    async with Mesh(registry) as opened:
        yield opened


@pytest.fixture
async def servers(mesh):
    """The addresses of two servers that answer, announced or not; `stays` is, from now on."""
    async with AsyncExitStack() as stack:
        addresses = {}
        for name in ("stays", "leaves"):
            server = grpc.aio.server()
            add_GreeterServicer_to_server(Greeter(name), server)
            addresses[name] = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
            await server.start()
            stack.push_async_callback(server.stop, None)
        await stack.enter_async_context(mesh.register(SERVICE, addresses["stays"]))
        yield addresses


@pytest.fixture
def command(greeting, servers):
    """The program, which greets again and again."""
    return (str(greeting), "-forever", "-pause=1ms")


@pytest.fixture
def address():
    """Where a proxy may listen."""
    return f"127.0.0.1:{free_ports(1)[0]}"


@pytest.fixture
async def central_proxy_envoy(command, registry, address, envoy_binary):
    words = ("meshkit", "gateway", "--concurrency", "1", "--listen", address)
    async with program(*words, registry=registry) as gateway:
        await gateway.until("gateway on")
        await until_all_answer(["stays"], address)
        async with started(*command, address) as client:
            yield client


@pytest.fixture
async def central_proxy_haproxy(command, mesh, address):
    haproxy, file = binary("haproxy"), CONFIGURATIONS / "haproxy.cfg"
    async with mesh.dns() as responder:
        environ = {"PORT": address.rpartition(":")[2], "DNS_PORT": str(responder.port)}
        with running(haproxy, "-db", "-q", "-f", str(file), **environ):
            await until_all_answer(["stays"], address)
            async with started(*command, address) as client:
                yield client


@pytest.fixture
async def native(command, etcd, registry):
    where = f"-etcd={etcd.url.removeprefix('etcd://')}"
    target = f"etcd://{registry.removeprefix(etcd.url)}/default/{SERVICE}"
    async with started(*command, where, target) as client:
        yield client


@pytest.fixture
async def sidecar(command, registry, address, envoy_binary):
    listen = ("--concurrency", "1", "--listen", f"{SERVICE}={address}")
    words = ("meshkit", "sidecar", *listen, "--", *command, address)
    async with program(*words, registry=registry) as client:
        yield client
        await client.ended(signal.SIGTERM)


@pytest.fixture
async def proxyless(command, mesh, tmp_path):
    async with mesh.xds("127.0.0.1:0") as plane:
        environ = {"GRPC_XDS_BOOTSTRAP": await bootstrap(plane, tmp_path)}
        async with started(*command, f"xds:///{SERVICE}", **environ) as client:
            yield client


WAYS = ["central_proxy_envoy", "central_proxy_haproxy", "native", "sidecar", "proxyless"]


@pytest.fixture(params=WAYS)
def client(request):
    return request.getfixturevalue(request.param)


async def answered(client):
    """How many of the next 30 calls each server answered; the program ends where one fails."""
    await client.until("30 calls")
    counts = {}
    while sum(counts.values()) < 30:
        who, count = (await client.until("")).split()
        counts[who] = int(count)
    return counts


async def test_go_calls_who_is_announced(client, mesh, servers):
    found = partial(answered, client)
    assert await found() == {"stays": 30}
    async with mesh.register(SERVICE, servers["leaves"]):
        await eventually(found, lambda counts: len(counts) == 2 and min(counts.values()) >= 5)
    await eventually(found, lambda counts: counts == {"stays": 30})
    for _ in range(20):
        assert await found() == {"stays": 30}
