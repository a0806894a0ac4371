"""The same tests against grpc.aio's own channel and against ours: they see no difference."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import anyio
import grpc
import grpc.aio
import pytest

from tests.client.fakes import (
    PATH,
    SHAPES,
    EchoServer,
    begin,
    error_of,
    method,
    open_channel,
    result,
    until,
)

pytestmark = pytest.mark.anyio
Status = grpc.StatusCode
States = grpc.ChannelConnectivity


@pytest.fixture
async def server() -> AsyncIterator[EchoServer]:
    async with EchoServer("a") as running:
        yield running


@pytest.fixture(params=["grpc", "meshkit"])
async def channel(request, server) -> AsyncIterator[grpc.aio.Channel]:
    async with AsyncExitStack() as stack:
        if request.param == "grpc":
            raw = grpc.aio.insecure_channel(f"127.0.0.1:{server.port}")
            yield await stack.enter_async_context(raw)
        else:
            yield (await stack.enter_async_context(open_channel(server)))[0]


@pytest.mark.parametrize("shape", SHAPES)
async def test_answers(channel, shape):
    call = begin(channel, shape, b"x", timeout=5)
    assert isinstance(
        call, getattr(grpc.aio, "".join(w.title() for w in shape.split("_")) + "Call")
    )
    assert not call.done()
    assert not call.cancelled()
    assert 4 < call.time_remaining() <= 5
    assert await result(call) == [b"x@a"] * (3 if shape == "unary_stream" else 1)
    assert await call.code() is Status.OK
    assert await call.details() == ""
    assert await call.debug_error_string() is not None
    assert call.done()
    assert not call.cancelled()
    assert call.cancel() is False


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_server_aborts(channel, shape):
    call = begin(channel, shape, b"abort:NOT_FOUND:no such thing")
    error = await error_of(call)
    assert error.code() is Status.NOT_FOUND is await call.code()
    assert error.details() == "no such thing" == await call.details()
    assert "no such thing" in error.debug_error_string()
    assert call.done()
    assert not call.cancelled()


@pytest.mark.parametrize("shape", SHAPES)
async def test_deadline(channel, shape):
    error = await error_of(begin(channel, shape, b"sleep:30", timeout=0.05))
    assert error.code() is Status.DEADLINE_EXCEEDED
    assert "Deadline Exceeded" in error.details()


@pytest.mark.parametrize("shape", SHAPES)
async def test_no_deadline(channel, shape):
    call = begin(channel, shape, b"x")
    assert call.time_remaining() is None
    await result(call)


async def test_a_deadline_that_has_passed(channel):
    error = await error_of(begin(channel, "unary_unary", b"x", timeout=-1))
    assert error.code() is Status.DEADLINE_EXCEEDED


async def test_metadata_both_ways(channel, server):
    sent = (("key", "value"), ("key-bin", b"\x00\xff"))
    call = begin(channel, "unary_unary", b"metadata", metadata=sent)
    assert ("begin", "b") in tuple(await call.initial_metadata())
    assert ("end", "e") in tuple(await call.trailing_metadata())
    assert await call == b"metadata@a"
    assert server.metadata[0]["key"] == "value"
    assert server.metadata[0]["key-bin"] == b"\x00\xff"


@pytest.mark.parametrize(
    "metadata", [None, (), [("k", "v")], grpc.aio.Metadata(("k", "v")), iter((("k", "v"),))]
)
async def test_forms_of_metadata(channel, metadata):
    assert await method(channel, "unary_unary")(b"x", metadata=metadata) == b"x@a"


async def test_a_dict_is_no_metadata(channel):
    with pytest.raises(ValueError):
        await method(channel, "unary_unary")(b"x", metadata={"key": "value"})


async def test_arguments_that_grpc_refuses(channel):
    start = method(channel, "unary_unary")
    with pytest.raises(grpc.aio.UsageError, match="only valid on secure channels"):
        start(b"x", credentials=grpc.access_token_call_credentials("t"))
    with pytest.raises(KeyError):
        start(b"x", compression=17)
    with pytest.raises(TypeError):
        start(b"x", timeout="soon")


async def test_stream_requests_take_positions(channel):
    call = method(channel, "stream_unary")(iter([b"1", b"2"]), 5, (("k", "v"),))
    assert await call == b"1@a+2@a"


@pytest.mark.parametrize("shape", SHAPES)
async def test_serializers(channel, shape):
    how = {"request_serializer": str.encode, "response_deserializer": bytes.decode}
    start = method(channel, shape, **how, _registered_method=True)
    answer = await result(start("x" if shape.startswith("unary") else iter(["x"])))
    assert answer == ["x@a"] * len(answer)


def broken(_: object) -> bytes:
    raise ValueError("broken")


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_deserializer_that_raises_answers_none(channel, shape):
    start = method(channel, shape, response_deserializer=broken)
    answer = await result(start(b"x" if shape.startswith("unary") else iter([b"x"])))
    assert answer == [None] * len(answer)


async def test_a_serializer_that_raises_sends_nothing(channel):
    assert await method(channel, "unary_unary", request_serializer=broken)(b"x") == b"@a"


async def test_read_to_the_end(channel):
    call = begin(channel, "unary_stream", b"x")
    assert [await call.read() for _ in range(5)] == [b"x@a"] * 3 + [grpc.aio.EOF] * 2
    assert call.done()


async def test_write_and_read(channel):
    call = method(channel, "stream_stream")()
    for request in (b"1", b"2"):
        await call.write(request)
        assert await call.read() == request + b"@a"
    await call.done_writing()
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    with pytest.raises(asyncio.InvalidStateError):
        await call.write(b"3")


async def test_write_and_one_answer(channel):
    call = method(channel, "stream_unary")()
    await call.write(b"1")
    await call.done_writing()
    with pytest.raises(asyncio.InvalidStateError):
        await call.write(b"2")
    assert await call == b"1@a"


async def test_iterating_twice_goes_on(channel):
    call = begin(channel, "unary_stream", b"x")
    async for _ in call:
        break
    assert [message async for message in call] == [b"x@a"] * 2
    assert [message async for message in call] == []


async def test_styles_do_not_mix(channel):
    call = begin(channel, "unary_stream", b"x")
    await call.read()
    with pytest.raises(grpc.aio.UsageError):
        async for _ in call:
            pass
    call.cancel()
    call = begin(channel, "stream_stream", b"x")
    with pytest.raises(grpc.aio.UsageError):
        await call.write(b"y")
    with pytest.raises(grpc.aio.UsageError):
        await call.done_writing()
    call.cancel()


@pytest.mark.parametrize("shape", ["stream_unary", "stream_stream"])
async def test_request_iterators(channel, shape):
    async def requests() -> AsyncIterator[bytes]:
        for request in (b"1", b"2"):
            await asyncio.sleep(0)
            yield request

    start = method(channel, shape)
    for iterator in (requests(), [b"1", b"2"], (r for r in (b"1", b"2"))):
        assert b"+".join(await result(start(iterator))) == b"1@a+2@a"
    assert await result(start([])) == ([b""] if shape == "stream_unary" else [])


@pytest.mark.parametrize("shape", ["stream_unary", "stream_stream"])
@pytest.mark.parametrize("good", [0, 1])
async def test_a_request_iterator_that_raises_cancels_the_call(channel, shape, good):
    async def requests() -> AsyncIterator[bytes]:
        for _ in range(good):
            yield b"1"
        raise ValueError("no more")

    call = method(channel, shape)(requests())
    ended = []
    call.add_done_callback(ended.append)
    await until(lambda: ended)
    assert await call.code() is Status.CANCELLED
    assert call.cancelled()


async def test_awaiting_twice(channel):
    call = begin(channel, "unary_unary", b"x")
    assert [await call, await call] == [b"x@a"] * 2
    failing = begin(channel, "unary_unary", b"abort:INTERNAL:x")
    codes = [(await error_of(failing)).code(), (await error_of(failing)).code()]
    assert codes == [Status.INTERNAL] * 2


@pytest.mark.parametrize("shape", SHAPES)
async def test_done_callbacks(channel, shape):
    call = begin(channel, shape, b"x")
    told = []
    call.add_done_callback(told.append)
    call.add_done_callback(told.append)
    await result(call)
    await call.code()
    assert told == [call, call]
    call.add_done_callback(told.append)
    assert told == [call] * 3


@pytest.mark.parametrize("shape", SHAPES)
async def test_cancel(channel, server, shape):
    call = begin(channel, shape, b"sleep:30")
    told = []
    call.add_done_callback(told.append)
    await until(lambda: server.active)
    assert call.cancel() is True
    assert call.cancel() is False
    assert call.cancelled()
    assert call.done()
    assert told == [call]
    with pytest.raises(asyncio.CancelledError):
        await result(call)
    assert await call.code() is Status.CANCELLED
    assert await call.details() == "Locally cancelled by application!"
    await until(lambda: server.cancelled == 1)


@pytest.mark.parametrize("shape", SHAPES)
async def test_cancel_at_once(channel, shape):
    call = begin(channel, shape, b"sleep:30")
    assert call.cancel() is True
    with pytest.raises(asyncio.CancelledError):
        await result(call)
    assert await call.code() is Status.CANCELLED


async def test_waiting_for_the_code_does_not_cancel(channel):
    call = begin(channel, "unary_unary", b"sleep:0.1")
    with anyio.move_on_after(0.01):
        await call.code()
    assert await call == b"sleep:0.1@a"


@pytest.mark.parametrize("shape", SHAPES)
async def test_wait_for_connection(channel, shape):
    call = begin(channel, shape, b"x")
    await call.wait_for_connection()
    await result(call)


@pytest.mark.parametrize("shape", SHAPES)
async def test_an_error_that_nobody_awaits_makes_no_noise(channel, shape, caplog):
    call = begin(channel, shape, b"abort:INTERNAL:x")
    await call.code()
    del call
    await asyncio.sleep(0)
    gc.collect()
    assert not caplog.records


async def test_channel_ready_and_state_changes(channel):
    await channel.channel_ready()
    assert channel.get_state() is States.READY
    assert channel.get_state(try_to_connect=True) is States.READY
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(channel.wait_for_state_change, States.READY)
        await asyncio.sleep(0)
        await channel.close()
    assert channel.get_state() is States.SHUTDOWN
    for state in (States.READY, States.SHUTDOWN):
        with pytest.raises(grpc.aio.UsageError, match=r"Channel is closed\."):
            await channel.wait_for_state_change(state)
    with pytest.raises(grpc.aio.UsageError, match=r"Channel is closed\."):
        await channel.channel_ready()


async def test_the_state_while_servers_are_down(channel, server):
    await channel.channel_ready()
    await server.stop()
    with anyio.fail_after(5):
        await channel.wait_for_state_change(States.READY)
    error = await error_of(begin(channel, "unary_unary", b"x"))
    assert error.code() is Status.UNAVAILABLE


async def test_a_closed_channel_refuses_calls(channel):
    start = method(channel, "unary_unary")
    await channel.close()
    await channel.close()
    with pytest.raises(grpc.aio.UsageError, match=r"Channel is closed\."):
        start(b"x")


async def test_close_lets_running_calls_end(channel, server):
    call = begin(channel, "unary_unary", b"sleep:0.2")
    await until(lambda: server.active)
    await channel.close(grace=5)
    assert await call == b"sleep:0.2@a"


@pytest.mark.parametrize("grace", [None, 0, 0.05])
async def test_close_cuts_what_is_left(channel, server, grace):
    call = begin(channel, "unary_unary", b"sleep:30")
    await until(lambda: server.active)
    await channel.close(grace)
    assert await call.code() is Status.CANCELLED
    await until(lambda: server.cancelled)


async def test_close_with_a_negative_grace(channel):
    with pytest.raises(ValueError):
        await channel.close(-1)
    assert await method(channel, "unary_unary")(b"x") == b"x@a"


async def test_as_a_context_manager(channel):
    async with channel as same:
        assert same is channel
    assert channel.get_state() is States.SHUTDOWN


async def test_an_unknown_method(channel):
    error = await error_of(channel.unary_unary(PATH + "Nothing")(b"x"))
    assert error.code() is Status.UNIMPLEMENTED
