"""Each example, run as its first lines say."""

import asyncio
import re
import signal
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import anyio
import httpx
import pytest

from examples.hello.helloworld_pb2 import HelloRequest
from examples.hello.helloworld_pb2_grpc import GreeterStub
from examples.two_and_one.clock_pb2 import NowRequest
from examples.two_and_one.clock_pb2_grpc import ClockStub
from meshkit import Mesh
from meshkit.testing.etcd import free_ports
from tests.examples.programs import gone, program

pytestmark = pytest.mark.anyio


@pytest.fixture
def registry(tmp_path):
    return f"local://{tmp_path}/registry.db"


@pytest.fixture
async def servers(registry):
    """Three of examples.hello.server."""
    async with AsyncExitStack() as stack:
        started = [
            await stack.enter_async_context(
                program("examples.hello.server", "--port", "0", registry=registry)
            )
            for _ in range(3)
        ]
        for server in started:
            await server.until("serving hello_service on")
        yield started


def spread(client):
    """How many calls each server answered, as the client's summary says."""
    found = [re.fullmatch(r"  (\S+) +(\d+) +[\d.]+%", line) for line in client.lines]
    return {match[1]: int(match[2]) for match in found if match}


async def run_client(registry, *flags):
    async with program("examples.hello.client", *flags, registry=registry) as client:
        assert await client.ended() == (0, "")
        return client


@pytest.mark.parametrize("policy", ["p2c", "round_robin"])
async def test_hello_spreads_its_calls(registry, servers, policy):
    flags = ("--count", "3000", "--interval", "0", "--quiet", "--policy", policy)
    counts = spread(await run_client(registry, *flags))
    assert len(counts) == 3
    assert "nobody" not in counts
    assert sum(counts.values()) == 3000
    deviation = max(abs(count - 1000) for count in counts.values())
    assert deviation <= (100 if policy == "p2c" else 0)


async def test_hello_prints_who_answers_and_leaves_when_told(registry, servers):
    client = await run_client(registry, "--count", "3", "--interval", "0")
    assert sum("Reply is Hello world" in line for line in client.lines) == 3
    async with program("examples.hello.client", registry=registry) as endless:
        await endless.until("Reply is")
        code, errors = await endless.ended(signal.SIGINT)
        assert (code, errors) == (0, "")
        assert any("calls, answered by:" in line for line in endless.lines)
    async with Mesh(registry) as mesh, mesh.watch("hello_service") as sets:
        for server in servers:
            assert (await server.ended(signal.SIGTERM)) == (0, "")
            assert server.lines[-1] == "leaving"
        await gone(sets)


async def test_a_server_leaves_the_registry_before_it_stops(registry):
    async with (
        program("examples.hello.server", "--port", "0", registry=registry) as server,
        Mesh(registry) as mesh,
        mesh.watch("hello_service") as sets,
    ):
        await server.until("serving")
        [endpoint] = await mesh.endpoints("hello_service")
        ending = asyncio.create_task(server.ended(signal.SIGTERM))
        await gone(sets)
        assert not ending.done()
        host, port = endpoint.address.split(":")
        stream = await anyio.connect_tcp(host, int(port))  # it listens still
        await stream.aclose()
        assert await ending == (0, "")


@pytest.mark.etcd
async def test_hello_over_etcd(etcd, tmp_path):
    registry = f"{etcd.url}/{tmp_path.name}"
    async with program("examples.hello.server", "--port", "0", registry=registry) as server:
        await server.until("serving")
        client = await run_client(registry, "--count", "300", "--interval", "0", "--quiet")
        assert list(spread(client).values()) == [300]
        async with Mesh(registry) as mesh, mesh.watch("hello_service") as sets:
            assert (await server.ended(signal.SIGTERM)) == (0, "")
            await gone(sets)


async def test_two_and_one(registry, servers):
    async with (
        program("examples.two_and_one.app", registry=registry) as app,
        Mesh(registry) as mesh,
    ):
        line = await app.until("serving front_service and clock_service on")
        [front] = await mesh.endpoints("front_service")
        assert line.endswith(front.address)
        async with mesh.channel("front_service") as fronts, mesh.channel("clock_service") as clocks:
            reply = await GreeterStub(fronts).SayHello(HelloRequest(name="Ada"), timeout=5)
            assert re.fullmatch(r"Hello Ada from \S+, through the front", reply.message)
            now = await ClockStub(clocks).Now(NowRequest(), timeout=5)
            assert re.fullmatch(r"\d\d:\d\d:\d\d", now.time)
        async with mesh.watch("front_service") as first, mesh.watch("clock_service") as second:
            ending = asyncio.create_task(app.ended(signal.SIGTERM))
            await gone(first)
            await gone(second)
            assert not ending.done()
            assert await ending == (0, "")


WEB = {
    # uvicorn ends by the signal that it was sent, once its shutdown is through
    "fastapi": (("uvicorn", "examples.fastapi_app.app:app", "--port"), "Uvicorn running", -15),
    "aiohttp": (("examples.aiohttp_app.app", "--port"), "Running on", 0),
}


@pytest.mark.parametrize("name", WEB)
async def test_web_apps(registry, name):
    command, ready, code = WEB[name]
    [port] = free_ports(1)
    async with (
        program(*command, str(port), registry=registry) as app,
        Mesh(registry) as mesh,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as web,
    ):
        with anyio.fail_after(20):
            while (reply := await attempt(web, "/hello/Ada")) is None:
                await anyio.sleep(0.05)
        assert reply.status_code == 200
        assert reply.json()["message"].startswith("Hello Ada from ")
        if name == "fastapi":
            assert (await web.get("/readyz")).json()["ready"] is True
        async with mesh.watch("hello_service") as sets:
            ending = asyncio.create_task(app.ended(signal.SIGTERM))
            await gone(sets)
            assert not ending.done()
            returned, errors = await ending
        assert returned == code, errors
        assert "Traceback" not in errors
        assert any(ready in line for line in (*app.lines, *errors.splitlines()))


async def attempt(web, path):
    try:
        return await web.get(path)
    except httpx.ConnectError:
        return None


async def test_demo(registry):
    async with program("examples.demo", "--seconds", "1", "--registry", registry) as demo:
        code, errors = await demo.ended()
        assert code == 0, errors
        text = "\n".join(demo.lines)
        assert "server two exited with 0" in text
        answered = dict(re.findall(r"answered by (\w+): +(\d+)", text))
        assert answered.keys() == {"one", "two", "three", "four"}
        assert all(int(count) for count in answered.values())
        failed = int(re.search(r"failed: +(\d+)", text)[1])
        assert failed <= 20  # each of its callers has one call on the wire, at most
        assert not running_with(registry)


def running_with(registry):
    """The command lines of the programs that were given `registry`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has just ended
            found.append(path.read_bytes().replace(b"\0", b" ").decode())
    return [line for line in found if registry in line]
