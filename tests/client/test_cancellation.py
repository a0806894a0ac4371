"""Cancelled by whom, and does everybody hear of it: 40 of 40 times in each form."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import grpc
import grpc.aio
import pytest

from meshkit.client import Channel
from tests.client.fakes import (
    SHAPES,
    EchoServer,
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
TIMES = 40
DELAY = 0.03

Work = Callable[[], Awaitable[object]]


async def fail_after(work: Work) -> None:
    with pytest.raises(TimeoutError):
        with anyio.fail_after(DELAY):
            await work()


async def move_on_after(work: Work) -> None:
    with anyio.move_on_after(DELAY) as scope:
        await work()
    assert scope.cancelled_caught


async def cancelled_group(work: Work) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(work)
        await asyncio.sleep(DELAY)
        tasks.cancel_scope.cancel()


async def host_of_a_group(work: Work) -> None:
    async def cancel_soon() -> None:
        await asyncio.sleep(DELAY)
        tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(cancel_soon)
        await work()
        raise AssertionError("not cancelled")


async def outer_scope(work: Work) -> None:
    with anyio.move_on_after(DELAY) as outer:
        with anyio.move_on_after(30) as inner:
            await work()
    assert outer.cancelled_caught
    assert not inner.cancelled_caught


async def inner_scope(work: Work) -> None:
    with anyio.fail_after(30) as outer:
        with anyio.move_on_after(DELAY) as inner:
            await work()
    assert inner.cancelled_caught
    assert not outer.cancel_called


async def asyncio_timeout(work: Work) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(DELAY):
            await work()


async def wait_for(work: Work) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(work(), DELAY)


async def task_cancel(work: Work) -> None:
    task = asyncio.ensure_future(work())
    await asyncio.sleep(DELAY)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


FORMS = [
    fail_after,
    move_on_after,
    cancelled_group,
    host_of_a_group,
    outer_scope,
    inner_scope,
    asyncio_timeout,
    wait_for,
    task_cancel,
]


async def clean(channel: Channel, server: EchoServer | None = None) -> None:
    """Nobody is left behind, and the channel still works."""
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await until(lambda: pending(channel) == 0)
    if server is not None:
        await until(lambda: server.active == 0)
        assert await result(begin(channel, "unary_unary", b"x")) == [b"x@a"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", SHAPES)
async def test_direct(shape, form):
    async with serving("a") as (server,), open_channel(server) as (channel, _):
        async with anyio.create_task_group() as tasks:
            for _ in range(TIMES):
                tasks.start_soon(form, lambda: result(begin(channel, shape, b"sleep:30")))
        await clean(channel, server)
        assert server.cancelled == len(server.seen) - 1


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", SHAPES)
async def test_deferred(shape, form):
    async with open_channel() as (channel, _):
        async with anyio.create_task_group() as tasks:
            for _ in range(TIMES):
                tasks.start_soon(form, lambda: result(begin(channel, shape, b"x", timeout=60)))
        await clean(channel)


async def reading(channel: Channel) -> object:
    call = begin(channel, "unary_stream", b"sleep:30")
    return await call.read()


async def reading_both_ways(channel: Channel) -> object:
    call = method(channel, "stream_stream")()
    await call.write(b"sleep:30")
    return await call.read()


async def after_the_first_message(channel: Channel) -> object:
    call = method(channel, "stream_stream")()
    await call.write(b"x")
    assert await call.read() == b"x@a"
    await call.write(b"sleep:30")
    return await call.read()


async def waiting_for_a_slow_request(channel: Channel) -> object:
    async def requests() -> AsyncIterator[bytes]:
        await asyncio.sleep(30)
        yield b"x"

    return await result(method(channel, "stream_stream")(requests()))


async def waiting_for_connection(channel: Channel) -> object:
    return await begin(channel, "unary_unary", b"sleep:30").wait_for_connection()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "work",
    [
        reading,
        reading_both_ways,
        after_the_first_message,
        waiting_for_a_slow_request,
        waiting_for_connection,
    ],
)
async def test_inside_a_call(work, form):
    async with serving("a") as (server,), open_channel(server) as (channel, _):
        async with anyio.create_task_group() as tasks:
            for _ in range(TIMES):
                tasks.start_soon(form, lambda: work(channel))
        await until(lambda: server.active == 0)
        gc.collect()  # calls that were dropped while somebody cancelled their reader
        await clean(channel, server)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
async def test_call_cancel_from_another_task(shape, known):
    async def cancelled(call: Any) -> None:
        with pytest.raises(asyncio.CancelledError):
            await result(call)

    async with serving("a") as (server,), open_channel(*[server] * known) as (channel, _):
        calls = [begin(channel, shape, b"sleep:30") for _ in range(TIMES)]
        async with anyio.create_task_group() as tasks:
            for call in calls:
                tasks.start_soon(cancelled, call)
            await asyncio.sleep(0.02)
            for call in calls:
                call.cancel()
        await clean(channel, server if known else None)


@pytest.mark.parametrize("shape", SHAPES)
async def test_close_cancels_nobody(shape):
    """grpc.aio throws CancelledError at tasks that nobody has cancelled."""
    codes = []

    async def caller(call: Any) -> None:
        error = await error_of(call)
        codes.append((error.code(), error.details()))

    async with (
        serving("a") as (server,),
        open_channel(server) as (channel, _),
        anyio.create_task_group() as tasks,
    ):
        for _ in range(TIMES):
            tasks.start_soon(caller, begin(channel, shape, b"sleep:30"))
        await until(lambda: server.active == TIMES)
        await channel.close()
    words = "Channel closed while the call was running."
    assert codes == [(grpc.StatusCode.CANCELLED, words)] * TIMES


async def test_another_who_awaits_the_same_call_is_not_cancelled():
    async with serving("a") as (server,), open_channel(server) as (channel, _):
        call = begin(channel, "unary_unary", b"sleep:30")
        async with anyio.create_task_group() as tasks:
            other = asyncio.ensure_future(error_of(call))
            await until(lambda: server.active)
            with anyio.move_on_after(DELAY):
                await call
            error = await other
            assert error.code() is grpc.StatusCode.CANCELLED
            assert error.details() == "Locally cancelled by application!"
            tasks.cancel_scope.cancel()


async def iterate_and_break(channel: Channel) -> None:
    async for _ in begin(channel, "unary_stream", b"sleep:0.01"):
        break


async def read_and_drop(channel: Channel) -> None:
    await begin(channel, "unary_stream", b"sleep:0.01").read()


async def write_and_drop(channel: Channel) -> None:
    call = method(channel, "stream_stream")()
    await call.write(b"x")
    await call.read()


async def never_touched(channel: Channel) -> None:
    begin(channel, "unary_stream", b"sleep:30")


@pytest.mark.parametrize(
    "abandon", [iterate_and_break, read_and_drop, write_and_drop, never_touched]
)
async def test_abandoned_streams_end(abandon):
    async with serving("a") as (server,), open_channel(server) as (channel, _):
        gc.disable()  # as soon as nobody holds the call, not some time later
        try:
            await abandon(channel)
            await until(lambda: pending(channel) == 0)
            await until(lambda: server.active == 0)
        finally:
            gc.enable()


async def test_a_stream_that_ended_is_not_abandoned(monkeypatch):
    cancelled = []
    monkeypatch.setattr("meshkit.client.shapes._abandon", lambda *call: cancelled.append(call))
    async with serving("a") as (server,), open_channel(server) as (channel, _):
        assert await result(begin(channel, "unary_stream", b"x")) == [b"x@a"] * 3
        gc.collect()
    assert cancelled == []


async def test_a_call_is_held_by_whoever_waits_for_it():
    async with serving("a") as (server,), open_channel(server) as (channel, _):
        code = await begin(channel, "stream_stream", b"abort:NOT_FOUND:x").code()
        assert code is grpc.StatusCode.NOT_FOUND
        messages = [m async for m in begin(channel, "unary_stream", b"sleep:0.01")]
        assert len(messages) == 3
