"""The programs of examples/three_models, with real proxies and a real control plane."""

from __future__ import annotations

import re
import sys
from contextlib import AsyncExitStack

import pytest

from meshkit import Mesh
from meshkit.testing import free_ports
from tests.envoy.conftest import envoy_binary
from tests.examples.programs import bootstrap, program
from tests.ingress.proxies import CONFIGURATIONS, binary, running, until_all_answer

__all__ = ["envoy_binary"]

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]


@pytest.fixture
def registry(tmp_path):
    return f"local://{tmp_path}/registry.db"


@pytest.fixture
async def servers(registry):
    """The addresses of two servers of hello_service."""
    async with AsyncExitStack() as stack:
        words = ("examples.hello.server", "--port", "0")
        started = [
            await stack.enter_async_context(program(*words, registry=registry)) for _ in range(2)
        ]
        yield [(await server.until("serving")).split()[-1] for server in started]


async def both_answer(servers, client):
    """The client's calls reached both servers, each several times."""
    await client.until("30 calls")
    code, errors = await client.ended()
    assert code == 0, errors
    counts = dict(re.findall(r"^  (\S+) +(\d+)$", "\n".join(client.lines), re.MULTILINE))
    assert sorted(counts) == sorted(servers)
    assert sum(map(int, counts.values())) == 30
    assert all(int(count) >= 5 for count in counts.values())


async def test_native(registry, servers):
    async with program("examples.three_models.native", registry=registry) as client:
        await both_answer(servers, client)


@pytest.mark.envoy
async def test_central_proxy_envoy(registry, servers, envoy_binary):
    [port] = free_ports(1)
    address = f"127.0.0.1:{port}"
    words = ("meshkit", "gateway", "--concurrency", "1", "--listen", address)
    async with program(*words, registry=registry) as gateway:
        await gateway.until("gateway on")
        await until_all_answer(servers, address)
        async with program("examples.three_models.central_proxy", address) as client:
            await both_answer(servers, client)


async def test_central_proxy_haproxy(registry, servers):
    haproxy, file = binary("haproxy"), CONFIGURATIONS / "haproxy.cfg"
    [port] = free_ports(1)
    address = f"127.0.0.1:{port}"
    async with Mesh(registry) as mesh, mesh.dns() as responder:
        environ = {"PORT": str(port), "DNS_PORT": str(responder.port)}
        with running(haproxy, "-db", "-q", "-f", str(file), **environ):
            await until_all_answer(servers, address)
            async with program("examples.three_models.central_proxy", address) as client:
                await both_answer(servers, client)


@pytest.mark.envoy
async def test_sidecar(registry, servers, envoy_binary):
    [port] = free_ports(1)
    listen = ("--concurrency", "1", "--listen", f"hello_service=127.0.0.1:{port}")
    command = (sys.executable, "-m", "examples.three_models.sidecar", f"127.0.0.1:{port}")
    async with program("meshkit", "sidecar", *listen, "--", *command, registry=registry) as client:
        await both_answer(servers, client)


async def test_proxyless(registry, servers, tmp_path):
    async with Mesh(registry) as mesh, mesh.xds("127.0.0.1:0") as plane:
        known = {"GRPC_XDS_BOOTSTRAP": await bootstrap(plane, tmp_path)}
        async with program("examples.three_models.proxyless", **known) as client:
            await both_answer(servers, client)
