"""Real servers with more calls than they can do."""

from __future__ import annotations

import asyncio
import contextlib
import re

import anyio
import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from meshkit.errors import ConfigError
from meshkit.events import CallsRefused
from meshkit.server import AdaptiveLimit, ServerOptions
from tests.server.fakes import Journal, a_server, dial
from tests.server.ring import Ring
from tests.server.ring_pb2_grpc import RingServicer, RingStub
from tests.server.test_calls import until_idle

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_task_left")]

TIGHT = AdaptiveLimit(initial=1, minimum=1, maximum=1)
LIMITS = [{"max_concurrent_rpcs": 1}, {"limit": TIGHT}]


async def refused(call) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    return caught.value


async def one_message(call):
    return [message async for message in call]


@pytest.mark.parametrize("options", LIMITS)
async def test_a_call_beyond_the_limit_is_refused_and_told_when_to_come_back(options):
    journal, ring = Journal(), Ring()
    async with a_server(ring, journal, **options) as server, dial(server) as channel:
        stub = RingStub(channel)
        first = stub.One(b"0.3", timeout=10)
        await ring.began.wait()
        for call in (stub.One(b"0"), one_message(stub.Fan(b"")), stub.Sum(iter([b""]))):
            error = await refused(call)
            assert "this server works on 1 calls" in error.details()
            assert 5 <= int(error.trailing_metadata()["grpc-retry-pushback-ms"]) <= 1500
        await refused(one_message(stub.Chat(iter([b"x"]))))
        assert re.search(r": serving \| \d in flight, limit 1, 4 refused>$", repr(server))
        assert await first == b"0.3"
        assert await stub.One(b"0", timeout=10) == b"0"  # there is a place again
        await until_idle(server)
    told = [event for event in journal.events if isinstance(event, CallsRefused)]
    assert told == [CallsRefused(1)]  # once, not four times


@pytest.mark.parametrize("options", LIMITS)
async def test_health_is_never_refused(options):
    ring = Ring()
    async with a_server(ring, **options) as server, dial(server) as channel:
        call = RingStub(channel).One(b"30")
        await ring.began.wait()
        health = health_pb2_grpc.HealthStub(channel)
        watches = [health.Watch(health_pb2.HealthCheckRequest()) for _ in range(3)]
        for watch in watches:
            assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        assert (await health.Check(health_pb2.HealthCheckRequest())).status
        call.cancel()
        for watch in watches:
            watch.cancel()


async def test_open_streams_hold_no_place_in_an_adaptive_limit():
    async with a_server(Ring(), limit=TIGHT) as server, dial(server) as channel:
        stub = RingStub(channel)
        streams = [stub.Fan(b"") for _ in range(3)]
        for stream in streams:
            assert await stream.read() == b"first"
        assert await stub.One(b"0", timeout=10) == b"0"
        for stream in streams:
            stream.cancel()


@pytest.mark.parametrize("options", LIMITS)
async def test_however_a_call_ends_its_place_is_free_again(options, caplog):
    caplog.set_level("CRITICAL", "grpc")
    ring = Ring()
    async with a_server(ring, **options) as server, dial(server) as channel:
        stub = RingStub(channel)
        for request in (b"raise", b"abort"):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.One(request)
            assert caught.value.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED
            await until_idle(server)
        ring.began = anyio.Event()
        call = stub.One(b"30")
        await ring.began.wait()
        call.cancel()
        await until_idle(server)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary("/test.Ring/None")(b"")
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        await until_idle(server)
        assert await stub.One(b"0") == b"0"


async def test_two_limits_are_one_too_many():
    with pytest.raises(ConfigError, match="not both"):
        ServerOptions(max_concurrent_rpcs=1, limit=AdaptiveLimit())
    with pytest.raises(ConfigError, match="1 or more"):
        ServerOptions(max_concurrent_rpcs=0)


class Pool(RingServicer):
    """Work that needs one of four connections for 0.25 s: 16 calls a second."""

    def __init__(self):
        self.connections = asyncio.Semaphore(4)

    async def One(self, request, context):
        async with self.connections:
            await asyncio.sleep(0.25)
        return request


async def test_an_overloaded_server_does_most_of_its_work_in_time():
    """48 calls a second that wait for 1.25 s each; 5 s of 16 are 80.

    Without the limit the server works for callers that give up before they have the answer. Both
    are asked at the same time, so that what else this machine does hurts both.
    """
    answered = {"limited": 0, "unlimited": 0}

    async def ask(one, name):
        with contextlib.suppress(grpc.aio.AioRpcError):
            await one(b"", timeout=1.25)
            answered[name] += 1

    async with (
        a_server(Pool(), grace=0.0, limit=AdaptiveLimit(initial=8)) as limited,
        a_server(Pool(), grace=0.0) as unlimited,
        dial(limited) as one,
        dial(unlimited) as other,
        anyio.create_task_group() as tasks,
    ):
        began = asyncio.get_running_loop().time()
        for number in range(5 * 48):  # by the clock: late ones follow at once
            await asyncio.sleep(began + number / 48 - asyncio.get_running_loop().time())
            tasks.start_soon(ask, RingStub(one).One, "limited")
            tasks.start_soon(ask, RingStub(other).One, "unlimited")
    assert answered["limited"] > 1.3 * answered["unlimited"], answered
