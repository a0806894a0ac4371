"""Replay, explain and the watch of a connection, each alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import anyio
import grpc
import grpc.aio
import pytest

from meshkit.balancer import EVERY, Counts, InFlight, Readiness, Selector
from meshkit.client import ConnectionOptions
from meshkit.client.clock import clock_of
from meshkit.client.explain import explain, rpc_error
from meshkit.client.replay import Replay
from meshkit.client.subchannel import Subchannel
from meshkit.discovery import Resolution
from meshkit.endpoint import Endpoint, EndpointSet
from meshkit.testing import VirtualClockLoop
from tests.client.fakes import FakeWatch, serving, until

pytestmark = pytest.mark.anyio


# ---- Replay


async def counted(*messages: int) -> AsyncIterator[int]:
    for message in messages:
        yield message


@pytest.mark.parametrize("source", [lambda: [1, 2, 3], lambda: counted(1, 2, 3)])
async def test_replay_gives_all(source):
    replay = Replay(source())
    assert [message async for message in replay] == [1, 2, 3]
    assert replay.is_spent


async def test_replay_begins_again_while_nothing_was_sent():
    replay = Replay(counted(1, 2, 3))
    first = aiter(replay)
    assert await anext(first) == 1
    assert not replay.is_spent
    assert [message async for message in replay] == [1, 2, 3]
    assert replay.is_spent


async def test_replay_knows_what_was_sent():
    replay = Replay(counted(1, 2, 3))
    first = aiter(replay)
    assert [await anext(first), await anext(first)] == [1, 2]
    assert replay.is_spent


async def test_replay_of_nothing():
    replay = Replay([])
    assert [message async for message in replay] == []
    assert [message async for message in replay] == []
    assert not replay.is_spent


async def test_replay_hands_a_slow_first_request_to_the_second_reader():
    come = asyncio.Event()

    async def slow() -> AsyncIterator[int]:
        await come.wait()
        yield 1

    replay = Replay(slow())
    dead = asyncio.ensure_future(anext(aiter(replay)))
    await asyncio.sleep(0)
    living: list[int] = []

    async def read() -> None:
        living.extend([message async for message in replay])

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        await asyncio.sleep(0)
        come.set()
    assert await dead == 1
    assert living == [1]


async def test_replay_hands_nothing_to_an_earlier_reader_alone():
    replay = Replay(counted(1, 2, 3, 4))
    earlier, later = aiter(replay), aiter(replay)
    assert (await anext(earlier), await anext(later)) == (1, 1)
    with anyio.fail_after(5):
        assert await anext(earlier) == 2  # it was sent, though nobody heard of it
        assert [message async for message in later] == [2, 3, 4]
        assert [message async for message in earlier] == []


@pytest.mark.parametrize("fails", [False, True])
async def test_replay_hands_on_what_an_earlier_reader_waited_for(fails):
    come = asyncio.Event()

    async def slow() -> AsyncIterator[int]:
        yield 1
        await come.wait()
        if fails:
            raise ValueError("no more")
        yield 2
        yield 3

    replay = Replay(slow())
    earlier, later = aiter(replay), aiter(replay)
    assert (await anext(earlier), await anext(later)) == (1, 1)
    dead = asyncio.ensure_future(anext(earlier))
    await asyncio.sleep(0)
    rest: list[int] = []

    async def read() -> None:
        async for message in later:
            rest.append(message)

    living = asyncio.ensure_future(read())
    await asyncio.sleep(0)
    come.set()
    with anyio.fail_after(5):
        ends = await asyncio.gather(dead, living, return_exceptions=True)
    if fails:
        assert [str(end) for end in ends] == ["no more", "no more"]
    else:
        assert ends[0] == 2
        assert rest == [2, 3]


@pytest.mark.parametrize("before", [1, 3])
async def test_replay_raises_what_the_source_raises(before):
    def broken() -> Any:
        yield from range(before)
        raise ValueError("no more")

    replay = Replay(broken())
    seen = []

    async def read() -> None:
        async for message in replay:
            seen.append(message)

    with pytest.raises(ValueError, match="no more"):
        await read()
    assert seen == list(range(before))


# ---- explain

USUAL = {"selector": EVERY, "counts": Counts(), "cause": ""}


def words(resolution: Resolution, watch: FakeWatch | None, **how: Any) -> str:
    return explain("echo", resolution, watch, **(USUAL | how))


async def test_not_asked_yet():
    assert words(Resolution(), None) == (
        "meshkit: endpoints of 'echo' are not known (registry not asked yet): no answer yet. "
        "Next: check that the registry runs and can be reached from here."
    )


async def test_a_registry_that_refuses_us_is_there():
    assert words(Resolution(trouble="permission denied", refused=True), None) == (
        "meshkit: endpoints of 'echo' are not known (registry not asked yet): permission denied. "
        "Next: check that the registry lets this client in: user, password, roles, TLS files."
    )


async def test_none_ready_with_and_without_a_cause():
    endpoints = EndpointSet.of("echo", [Endpoint(service="echo", id="a", address="h:1")])
    watch = FakeWatch("echo")
    watch.latest.set(Resolution(endpoints))
    counts = Counts(failing=1)
    without = words(Resolution(endpoints), watch, counts=counts)
    assert "(registry fake://, synced 3.2 s ago; 1 known: 1 failing). Next:" in without
    assert "failing). Last error: boom. Next:" in words(
        Resolution(endpoints), watch, counts=counts, cause="boom"
    )


async def test_what_a_route_asks_for_may_not_be_there_or_not_be_ready():
    endpoints = EndpointSet.of(
        "echo",
        [
            Endpoint(service="echo", id="a", address="h:1", version="v1"),
            Endpoint(service="echo", id="b", address="h:2", version="v2"),
        ],
    )
    assert words(Resolution(endpoints), None, selector=Selector("v3")) == (
        "meshkit: no endpoint of 'echo' with version v3 is registered, and a route sends the call "
        "there (registry not asked yet; 2 others). Next: start a server with that version and "
        "metadata, or change the routes or their fallback."
    )
    failing = words(Resolution(endpoints), None, selector=Selector("v2"), counts=Counts(failing=1))
    assert failing.startswith("meshkit: no endpoint of 'echo' with version v2 is ready (")
    assert "; 1 known: 1 failing). Next: check" in failing
    ejected = words(Resolution(endpoints), None, selector=Selector("v2"), counts=Counts(ejected=1))
    assert ejected.startswith("meshkit: all connected endpoints of 'echo' with version v2 are")


@pytest.mark.parametrize(
    ("age", "said"),
    [
        (119.94, "119.9 s"),
        (120.0, "2.0 min"),
        (7199.0, "120.0 min"),
        (11520.0, "3.2 h"),
        (691200.0, "8.0 days"),
    ],
)
async def test_how_old_the_news_is(monkeypatch: pytest.MonkeyPatch, age: float, said: str):
    endpoints = EndpointSet.of("echo", [Endpoint(service="echo", id="a", address="h:1")])
    watch = FakeWatch("echo")
    monkeypatch.setattr(watch, "age", lambda: age)
    assert f"(registry fake://, synced {said} ago; 1 known" in words(Resolution(endpoints), watch)
    cached = Resolution(endpoints, "down", from_cache=True)
    assert f"(registry fake://, from cache, {said} old; 1 known" in words(cached, watch)


async def test_an_error_of_our_own_is_complete():
    error = rpc_error(grpc.StatusCode.UNAVAILABLE, "why")
    assert isinstance(error, grpc.aio.AioRpcError)
    assert (error.details(), error.debug_error_string()) == ("why", "why")
    assert tuple(error.trailing_metadata()) == ()
    assert "why" in str(error)


# ---- the clock


async def test_the_clock_of_a_loop():
    loop = asyncio.get_running_loop()
    assert clock_of(loop) is time.monotonic
    assert loop.time() - 1 < clock_of(loop)() <= loop.time()
    other = VirtualClockLoop()
    assert clock_of(other) == other.time
    other.close()


# ---- Subchannel


async def test_the_watch_of_a_connection():
    async with serving("a") as (server,), anyio.create_task_group() as tasks:
        node = Subchannel(server.endpoint, ConnectionOptions(), InFlight())
        seen = []

        def changed(which: Subchannel, readiness: Readiness) -> None:
            assert which is node
            node.readiness = readiness
            seen.append(readiness)

        def met(_: Subchannel, stranger: str) -> None:
            raise AssertionError(stranger)

        tasks.start_soon(node.watch, changed, met)
        await until(lambda: seen == [Readiness.READY])
        assert repr(node) == f"<Subchannel {server.endpoint.address} ready, 0 pending>"
        await server.stop()
        await until(lambda: seen[-1] is Readiness.FAILING)
        assert seen[1:] in ([Readiness.FAILING], [Readiness.CONNECTING, Readiness.FAILING])
        await server.start()
        await until(lambda: seen[-1] is Readiness.READY)
        again = seen[seen.index(Readiness.FAILING) :]
        assert again == [Readiness.FAILING, Readiness.READY]  # failing until it is ready
        await node.close(None)  # and with it the watch


async def test_closing_waits_for_calls_as_long_as_told():
    async with serving("a") as (server,):
        for grace in (None, 0.05):
            node = Subchannel(server.endpoint, ConnectionOptions(), InFlight())
            node.start()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(node.close, grace)
                tasks.start_soon(node.close, grace)
                await asyncio.sleep(0.01)
                assert node._channel.get_state() is not grpc.ChannelConnectivity.SHUTDOWN
                if grace is None:
                    node.finish(0.1, 0.1)
            assert node._channel.get_state() is grpc.ChannelConnectivity.SHUTDOWN
