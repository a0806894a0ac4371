"""Real clients and servers of Go frameworks in one mesh with ours: found, called, weighed, gone."""

import asyncio
import time
from collections import Counter
from contextlib import AsyncExitStack, aclosing

import pytest

from meshkit import Mesh, RoundRobin
from meshkit.registry.etcd import EtcdOptions, EtcdStore
from meshkit.registry.layouts import make_layout
from tests.interop.programs import FRAMEWORKS, NAME, Peers
from tests.mesh.greeters import Greeter, greet

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.interop,
    pytest.mark.etcd,
    pytest.mark.timeout(60, func_only=True),  # not the build
]

WITHIN = 10.0  # seconds for what takes a moment where the machine is not busy


@pytest.fixture
def peers(programs, framework, etcd, tmp_path):
    return Peers(programs, framework, etcd, tmp_path)


@pytest.fixture
def service(request):
    return request.node.name.partition("[")[0]


@pytest.fixture
async def mesh(framework, etcd):
    async with Mesh(f"{etcd.url}?layout={framework.layout}") as opened:
        yield opened


def serve(mesh, service, name, weight=100):
    return mesh.serve(service, Greeter(name), advertise="127.0.0.1", weight=weight)


async def reached(calls, names, within=WITHIN):
    """Wait until all of `names` have answered; no call may fail meanwhile."""
    answered = set()
    until = time.monotonic() + within
    while not names <= answered:
        assert time.monotonic() < until, f"only {answered} answered"
        answered |= (await calls(10)).keys()


def by_go(client):
    async def calls(count):
        outcome = await client.calls(count)
        assert not outcome.errors
        return outcome.replies

    return calls


def by_us(channel):
    async def calls(count):
        return Counter([await greet(channel) for _ in range(count)])

    return calls


async def keep_on(calls, end):
    """Call until the event `end`."""
    while not end.is_set():
        await calls(1)


async def test_go_finds_our_servers_as_they_come_and_go(mesh, service, framework, peers):
    gone = asyncio.Event()
    async with serve(mesh, service, "stays"), peers.client(service) as client:
        calls = by_go(client)
        await reached(calls, {"stays"})
        async with serve(mesh, service, "leaves"):
            await reached(calls, {"stays", "leaves"}, WITHIN + framework.polls)
            calling = asyncio.create_task(keep_on(calls, gone))
        gone.set()
        await calling
        assert await calls(50) == {"stays": 50}


async def test_we_find_go_servers_as_they_come_and_go(mesh, service, peers):
    gone = asyncio.Event()
    async with (
        peers.server(service, "stays"),
        mesh.channel(service, policy=RoundRobin()) as channel,
    ):
        calls = by_us(channel)
        await reached(calls, {"stays"})
        async with peers.server(service, "leaves"):
            await reached(calls, {"stays", "leaves"})
            calling = asyncio.create_task(keep_on(calls, gone))
        gone.set()
        await calling
        assert await calls(50) == {"stays": 50}


@pytest.mark.parametrize("framework", [f for f in FRAMEWORKS if f.weighs], ids=NAME, indirect=True)
async def test_go_splits_calls_by_our_weights(mesh, service, framework, peers):
    async with (
        serve(mesh, service, "light"),
        serve(mesh, service, "heavy", weight=300),
        peers.client(service) as client,
    ):
        calls = by_go(client)
        await reached(calls, {"light", "heavy"}, WITHIN + framework.polls)
        assert (await calls(1000))["heavy"] == pytest.approx(750, rel=0.1)


@pytest.mark.parametrize("framework", [f for f in FRAMEWORKS if f.neutral], ids=NAME, indirect=True)
async def test_we_split_calls_by_go_weights(mesh, service, peers):
    async with peers.server(service, "light"), peers.server(service, "heavy", times=3):
        while (
            len(await mesh.endpoints(service)) < 2
        ):  # who comes later than the channel starts slowly
            await asyncio.sleep(0.05)
        calls = by_us(await mesh.channel(service))
        await reached(calls, {"light", "heavy"})
        assert (await calls(1000))["heavy"] == pytest.approx(750, rel=0.1)


@pytest.mark.parametrize("framework", [f for f in FRAMEWORKS if f.neutral], ids=NAME, indirect=True)
async def test_what_go_writes_we_would_write(mesh, service, framework, peers, etcd):
    layout = make_layout(framework.layout)
    async with peers.server(service, "a", times=3):
        written = await entries(etcd, layout.prefix("default", service))
    [(key, value)] = written.items()
    assert layout.encode("default", layout.decode(service, key, value)) == (key, value)


async def test_all_frameworks_in_one_mesh(programs, service, etcd, tmp_path):
    """We call everybody's servers at once, and everybody finds ours."""
    everybody = [Peers(programs, framework, etcd, tmp_path) for framework in FRAMEWORKS]
    foreign = ",".join(framework.layout for framework in FRAMEWORKS[1:])
    names = {framework.program for framework in FRAMEWORKS}
    async with (
        Mesh(f"{etcd.url}?also={foreign}&read={foreign}") as mesh,
        serve(mesh, service, "ours"),
        AsyncExitStack() as stack,
    ):
        for framework, peers in zip(FRAMEWORKS, everybody, strict=True):
            await stack.enter_async_context(peers.server(service, framework.program))
        channel = await mesh.channel(service, policy=RoundRobin())
        await reached(by_us(channel), {"ours", *names})
        assert len(channel.status().endpoints) == len(names) + 1
        for framework, peers in zip(FRAMEWORKS, everybody, strict=True):
            async with peers.client(service) as client:
                await reached(by_go(client), {"ours", framework.program})


async def entries(etcd, prefix):
    """What stands under `prefix`, as soon as anything does."""
    async with aclosing(
        EtcdStore(EtcdOptions(endpoints=(etcd.url.removeprefix("etcd://"),)))
    ) as store:
        until = time.monotonic() + WITHIN
        while not (listing := await store.list(prefix)).items:
            assert time.monotonic() < until
        return {item.key: item.value for item in listing.items}
