"""Calls that find no endpoint: which wait, which fail, and with what words."""

from __future__ import annotations

import asyncio
import gc
import socket

import anyio
import grpc
import grpc.aio
import pytest

from meshkit.endpoint import Endpoint
from tests.client.fakes import (
    SHAPES,
    begin,
    error_of,
    method,
    open_channel,
    pending,
    result,
    serving,
    until,
)

pytestmark = pytest.mark.anyio
Status = grpc.StatusCode


def nobody(name: str = "dead") -> Endpoint:
    """An endpoint whose port refuses connections."""
    return Endpoint(service="echo", id=name, address="127.0.0.1:1")


def silent(port: int) -> Endpoint:
    """An endpoint that accepts connections and says nothing."""
    return Endpoint(service="echo", id="silent", address=f"127.0.0.1:{port}")


@pytest.mark.parametrize("shape", SHAPES)
async def test_calls_wait_for_the_first_endpoints_and_go(shape):
    async with serving("a") as servers, open_channel() as (channel, resolver):
        tasks = len(asyncio.all_tasks())
        calls = [begin(channel, shape, b"x", timeout=10) for _ in range(20)]
        await asyncio.sleep(0.02)
        assert len(asyncio.all_tasks()) == tasks  # a call that waits is no task
        assert channel.status().waiting == 20
        assert not any(call.done() for call in calls)
        assert 9 < calls[0].time_remaining() < 10
        resolver.say(*servers)
        for call in calls:
            assert set(await result(call)) == {b"x@a"}
            assert await call.code() is Status.OK
        assert pending(channel) == 0


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "question", ["code", "details", "initial_metadata", "trailing_metadata", "wait_for_connection"]
)
async def test_questions_wait_as_well(shape, question):
    async with serving("a") as servers, open_channel() as (channel, resolver):
        call = begin(channel, shape, b"x")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(getattr(call, question))
            tasks.start_soon(result, call)
            await asyncio.sleep(0.01)
            resolver.say(*servers)


async def test_write_style_waits():
    async with serving("a") as servers, open_channel() as (channel, resolver):
        call = method(channel, "stream_stream")()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call.write, b"1")
            await asyncio.sleep(0.01)
            resolver.say(*servers)
        assert await call.read() == b"1@a"
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_deadline_while_waiting(shape):
    async with open_channel() as (channel, _):
        call = begin(channel, shape, b"x", timeout=0.05)
        told = []
        call.add_done_callback(told.append)
        error = await error_of(call)
        assert error.code() is Status.DEADLINE_EXCEEDED is await call.code()
        assert error.details().startswith("Deadline Exceeded while waiting. meshkit: endpoints of")
        assert "no answer yet" in error.details()
        assert tuple(await call.trailing_metadata()) == () == tuple(await call.initial_metadata())
        assert await call.debug_error_string() == await call.details() == error.details()
        assert told == [call]
        assert call.time_remaining() == 0
        assert pending(channel) == 0
        with pytest.raises(grpc.aio.AioRpcError):
            await call.wait_for_connection()


@pytest.mark.parametrize("shape", SHAPES)
async def test_cancel_while_waiting(shape):
    async with serving("a") as servers, open_channel() as (channel, resolver):
        call = begin(channel, shape, b"x", timeout=10)
        told = []
        call.add_done_callback(told.append)
        assert call.cancel() is True
        assert call.cancel() is False
        assert call.cancelled()
        assert told == [call]
        with pytest.raises(asyncio.CancelledError):
            await result(call)
        assert await call.code() is Status.CANCELLED
        assert await call.details() == "Locally cancelled by application!"
        resolver.say(*servers)
        await channel.channel_ready()
        assert servers[0].seen == []
        assert pending(channel) == 0


@pytest.mark.parametrize("shape", SHAPES)
async def test_close_while_waiting(shape):
    async with open_channel() as (channel, _):
        call = begin(channel, shape, b"x")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(channel.close, 5)
            error = await error_of(call)
        assert error.code() is Status.CANCELLED
        assert "closed" in error.details()


async def test_registry_trouble_at_first():
    async with serving("a") as servers, open_channel() as (channel, resolver):
        early = begin(channel, "unary_unary", b"x", timeout=10)
        patient = begin(channel, "unary_unary", b"y", timeout=10, wait_for_ready=True)
        resolver.fail("connection refused by 10.0.0.1:2379")
        late_error = None
        for call in (early, begin(channel, "unary_unary", b"x")):
            late_error = await error_of(call)
            assert late_error.code() is Status.UNAVAILABLE
        assert late_error.details() == (
            "meshkit: endpoints of 'echo' are not known (registry fake://, never synced): "
            "connection refused by 10.0.0.1:2379. "
            "Next: check that the registry runs and can be reached from here."
        )
        resolver.say(*servers)
        assert await patient == b"y@a"


async def test_registry_trouble_later_stops_nobody():
    async with serving("a") as servers, open_channel(*servers) as (channel, resolver):
        resolver.fail("registry is down")
        await until(lambda: channel.status().trouble)
        assert await result(begin(channel, "unary_unary", b"x")) == [b"x@a"]


async def test_nobody_has_registered():
    async with serving("a") as servers, open_channel() as (channel, resolver):
        resolver.say()
        await channel.warm_up(1.0)
        error = await error_of(begin(channel, "unary_unary", b"x", timeout=10))
        assert error.code() is Status.UNAVAILABLE
        assert error.details() == (
            "meshkit: nobody has registered 'echo' (registry fake://, synced 3.2 s ago). "
            "Next: start a server of it on this registry and namespace."
        )
        patient = begin(channel, "unary_unary", b"x", timeout=10, wait_for_ready=True)
        await asyncio.sleep(0.01)
        assert not patient.done()
        resolver.say(*servers)
        assert await patient == b"x@a"


@pytest.mark.parametrize("shape", SHAPES)
async def test_all_endpoints_fail(shape):
    async with open_channel(nobody()) as (channel, _):
        with anyio.fail_after(1):
            error = await error_of(begin(channel, shape, b"x", timeout=10))
        assert error.code() is Status.UNAVAILABLE
        words = error.details()
        assert words.startswith(
            "meshkit: no endpoint of 'echo' is ready (registry fake://, synced 3.2 s ago; "
            "1 known: 1 failing). Last error: "
        )
        assert "127.0.0.1:1" in words
        assert "Connection refused" in words
        assert words.endswith(
            "Next: check that the servers run, are healthy and can be reached from here."
        )
        assert pending(channel) == 0


async def test_wait_for_ready_outlives_failing_endpoints():
    async with serving("a") as servers, open_channel(nobody()) as (channel, resolver):
        call = begin(channel, "unary_unary", b"x", timeout=10, wait_for_ready=True)
        await asyncio.sleep(0.05)
        assert channel.status().waiting == 1
        resolver.say(nobody(), *servers)
        assert await call == b"x@a"


async def test_calls_wait_while_connections_are_made():
    with socket.create_server(("127.0.0.1", 0)) as quiet:
        endpoint = silent(quiet.getsockname()[1])
        async with serving("a") as servers, open_channel() as (channel, resolver):
            resolver.say(endpoint)
            error = await error_of(begin(channel, "unary_unary", b"x", timeout=0.1))
            assert error.code() is Status.DEADLINE_EXCEEDED
            assert "1 known: 1 connecting" in error.details()
            call = begin(channel, "unary_unary", b"x", timeout=10)
            resolver.say(endpoint, *servers)
            assert await call == b"x@a"


async def test_arguments_that_grpc_refuses_are_an_error_of_that_call_only():
    async with serving("a") as servers, open_channel() as (channel, resolver):
        credentials = grpc.access_token_call_credentials("token")  # no TLS here: refused
        wrong = begin(channel, "unary_unary", b"x", credentials=credentials)
        right = begin(channel, "unary_unary", b"y")
        resolver.say(*servers)
        assert await right == b"y@a"
        error = await error_of(wrong)
        assert error.code() is Status.INTERNAL
        assert "only valid on secure channels" in error.details()
        assert isinstance(error.__cause__, grpc.aio.UsageError)
        assert pending(channel) == 0


@pytest.mark.parametrize("shape", SHAPES)
async def test_an_error_that_nobody_awaits_makes_no_noise(shape, caplog):
    async with open_channel() as (channel, resolver):
        call = begin(channel, shape, b"x")
        resolver.say()
        await until(call.done)
        del call
        gc.collect()
        assert not caplog.records


async def test_oldest_first():
    async with serving("a") as (server,), open_channel() as (channel, resolver):
        calls = [begin(channel, "unary_unary", b"%d" % n) for n in range(10)]
        resolver.say(server)
        for call in calls:
            await call
        assert server.seen == [b"%d" % n for n in range(10)]


async def test_a_deadline_that_waiting_used_up_is_not_given_again():
    async with serving("a") as servers, open_channel() as (channel, resolver):
        call = begin(channel, "unary_unary", b"sleep:30", timeout=0.3)
        began = channel._dispatch.now()
        await asyncio.sleep(0.15)
        resolver.say(*servers)
        assert (await error_of(call)).code() is Status.DEADLINE_EXCEEDED
        assert 0.25 < channel._dispatch.now() - began < 2
