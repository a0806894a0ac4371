"""Channels that have no connections while nobody calls: the rule in virtual time, then on wires."""

import asyncio
import math
import random
from collections import Counter

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshkit.client import ChannelOptions
from meshkit.client.idleness import Idleness
from meshkit.errors import ConfigError
from meshkit.testing import VirtualClockLoop
from tests.client.fakes import SHAPES, begin, error_of, open_channel, result, serving, until

pytestmark = pytest.mark.anyio

States = grpc.ChannelConnectivity
LAZY = ChannelOptions(policy="round_robin", idle_timeout=math.inf)
BRIEF = ChannelOptions(policy="round_robin", idle_timeout=0.05)


class Used:
    """An `Idleness` of 10 s, and the calls that it looks for."""

    def __init__(self, timeout: float | None = 10.0) -> None:
        self.calls = 0
        self.under_way = 0
        self.changes: list[tuple[float, bool]] = []
        self.idleness = Idleness(timeout, activity=self._activity, changed=self._changed)

    def _activity(self) -> int | None:
        return None if self.under_way else self.calls

    def _changed(self) -> None:
        self.changes.append((asyncio.get_running_loop().time(), self.idleness.is_idle))

    def call(self) -> None:
        self.calls += 1
        self.idleness.wake()


def in_virtual_time(scene):
    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        return runner.run(scene())


def test_it_begins_idle_and_is_idle_again_after_the_timeout():
    async def scene():
        used = Used()
        await asyncio.sleep(1000)
        used.call()
        await asyncio.sleep(1000)
        used.idleness.stop()
        return used.changes

    assert in_virtual_time(scene) == [(1000.0, False), (1020.0, True)]


def test_what_lasts_keeps_it_awake():
    async def scene():
        used = Used()
        used.call()
        used.under_way = 1
        await asyncio.sleep(1000)
        used.under_way = 0
        await asyncio.sleep(100)
        used.idleness.stop()
        return used.changes

    assert in_virtual_time(scene) == [(0.0, False), (1020.0, True)]


@pytest.mark.parametrize(("timeout", "first"), [(None, False), (math.inf, True)])
def test_it_may_never_be_idle_or_only_at_first(timeout, first):
    async def scene():
        used = Used(timeout)
        assert used.idleness.is_idle is first
        used.call()
        await asyncio.sleep(1e6)
        return used.changes

    assert in_virtual_time(scene) == ([(0.0, False)] if first else [])


def test_stopped_it_changes_nothing():
    async def scene():
        used = Used()
        used.call()
        used.idleness.stop()
        used.call()
        await asyncio.sleep(1000)
        return used.changes

    assert in_virtual_time(scene) == [(0.0, False)]


@given(st.lists(st.floats(0.01, 60.0), min_size=1, max_size=20))
def test_never_before_the_timeout_and_never_after_twice_the_timeout(pauses):
    async def scene():
        used, calls = Used(), []
        for pause in pauses:
            used.call()
            calls.append(asyncio.get_running_loop().time())
            await asyncio.sleep(pause)
        await asyncio.sleep(100)
        used.idleness.stop()
        return used.changes, calls

    changes, calls = in_virtual_time(scene)
    for at, is_idle in changes:
        if is_idle:
            last = max(call for call in calls if call < at)
            assert 10.0 - 1e-6 <= at - last <= 20.0 + 1e-6
        else:
            assert at in calls
    assert changes[-1][1]


async def test_nothing_is_connected_before_the_first_call():
    async with serving("a", "b") as servers, open_channel(*servers, options=LAZY) as (channel, _):
        assert channel.get_state() is States.IDLE
        assert repr(channel) == "<Channel 'echo': idle>"
        assert channel.status().endpoints == ()
        assert await begin(channel, "unary_unary", b"x") in (b"x@a", b"x@b")
        assert channel.get_state() is States.READY
        assert len(channel.status().endpoints) == 2


@pytest.mark.parametrize("shape", SHAPES)
async def test_the_first_call_waits_for_its_connection(shape):
    async with serving("a") as servers, open_channel(*servers, options=LAZY) as (channel, _):
        call = begin(channel, shape, b"x")
        assert channel.status().waiting == 1
        assert (await result(call))[0] == b"x@a"


async def test_connections_can_be_asked_for():
    async with serving("a") as servers, open_channel(*servers, options=LAZY) as (channel, _):
        assert channel.get_state(try_to_connect=True) is States.CONNECTING
        await until(lambda: channel.get_state() is States.READY)
    async with serving("a") as servers, open_channel(*servers, options=LAZY) as (channel, _):
        await asyncio.wait_for(channel.channel_ready(), 10.0)


async def test_news_does_not_wake_it_and_is_used_when_it_wakes():
    async with serving("a", "b") as (a, b), open_channel(a, options=LAZY) as (channel, resolver):
        resolver.say(b)
        await asyncio.sleep(0.01)
        assert channel.get_state() is States.IDLE
        assert await begin(channel, "unary_unary", b"x") == b"x@b"


async def test_a_service_that_nobody_serves_is_told_as_ever():
    async with open_channel(options=LAZY) as (channel, resolver):
        resolver.say()
        await asyncio.sleep(0.01)
        assert (
            "nobody has registered"
            in (await error_of(begin(channel, "unary_unary", b"x"))).details()
        )


async def test_it_is_idle_again_and_the_next_call_connects():
    async with serving("a") as servers, open_channel(*servers, options=BRIEF) as (channel, _):
        for _ in range(3):
            assert await begin(channel, "unary_unary", b"x") == b"x@a"
            await until(lambda: channel.get_state() is States.IDLE)
            await until(lambda: not channel._dispatch._connections.retiring)


async def test_a_stream_keeps_it_awake():
    async with serving("a") as servers, open_channel(*servers, options=BRIEF) as (channel, _):
        call = begin(channel, "unary_unary", b"sleep:0.4")
        await until(lambda: servers[0].active)
        await asyncio.sleep(0.2)
        assert channel.get_state() is States.READY
        assert await call == b"sleep:0.4@a"


async def test_no_call_is_lost_at_the_edge():
    """Calls come just when the connections are closed, again and again."""
    options = ChannelOptions(policy="round_robin", idle_timeout=0.01)
    rng = random.Random(1)
    async with (
        serving("a", "b") as servers,
        open_channel(*servers, options=options) as (channel, _),
    ):
        ends: Counter[str] = Counter()
        slept = 0
        for _ in range(60):
            call = begin(channel, rng.choice(SHAPES), b"x")
            ends[(await result(call))[0][:2].decode()] += 1
            await asyncio.sleep(rng.uniform(0.008, 0.022))
            slept += channel.get_state() is States.IDLE
        assert ends == {"x@": 60}
        assert slept > 5


async def test_closed_while_idle():
    async with serving("a") as servers, open_channel(*servers, options=LAZY) as (channel, _):
        await channel.close()
        assert channel.get_state(try_to_connect=True) is States.SHUTDOWN
        with pytest.raises(grpc.aio.UsageError):
            begin(channel, "unary_unary", b"x")


def test_the_timeout_is_positive():
    with pytest.raises(ConfigError, match="idle_timeout must be more than 0 seconds, got 0"):
        ChannelOptions(idle_timeout=0)
