"""Retries, clause by clause of gRFC A6, against servers that follow a script."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import anyio
import grpc
import grpc.aio
import pytest

from meshkit.client import Channel, ChannelOptions, ConnectionOptions, RetryLimits
from meshkit.endpoint import Endpoint
from meshkit.service_config import ServiceConfig
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
from tests.client.scripted import (
    FAILS,
    Script,
    ScriptedServer,
    Step,
    retrying,
    scripted,
    with_method,
)

pytestmark = pytest.mark.anyio
Status = grpc.StatusCode
FAIL = Step(FAILS)
OK = Step(messages=1)


async def quiet(channel: Channel) -> None:
    """Nothing of any call is left."""
    await until(lambda: pending(channel) == 0 and channel.status().resting == 0)


async def resting(channel: Channel) -> None:
    await until(lambda: channel.status().resting)


# ---- "Maximum Number of Retries", "Retryable Status Codes", "Exposed Retry Metadata"


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_failed_call_is_tried_again_elsewhere(shape):
    script = Script(FAIL, FAIL, OK)
    async with scripted(script, retrying()) as channel:
        call = begin(channel, shape, b"x", timeout=10)
        told: list[Any] = []
        call.add_done_callback(told.append)
        assert b"".join(await result(call)).startswith(b"0@")
        assert await call.code() is Status.OK
        assert told == [call]
        assert len({attempt.server for attempt in script.attempts}) == 3
        assert [attempt.previous for attempt in script.attempts] == [None, "1", "2"]
        assert [attempt.requests for attempt in script.attempts] == [[b"x"]] * 3
        await quiet(channel)


@pytest.mark.parametrize(("policy", "attempts"), [(2, 2), (5, 5), (9, 5)])
async def test_attempts_are_limited_and_the_first_one_counts(policy, attempts):
    script = Script(FAIL)
    async with scripted(script, retrying(maxAttempts=policy)) as channel:
        error = await error_of(begin(channel, "unary_unary", b"x"))
        assert error.code() is Status.UNAVAILABLE
        assert len(script.attempts) == attempts


@pytest.mark.parametrize("shape", SHAPES)
async def test_the_last_attempt_is_what_the_caller_sees(shape):
    script = Script(FAIL, FAIL, Step("ABORTED"))
    async with scripted(script, retrying()) as channel:
        call = begin(channel, shape, b"x")
        told: list[Any] = []
        call.add_done_callback(told.append)
        code, details, trailers = [
            await answer for answer in (call.code(), call.details(), call.trailing_metadata())
        ]
        assert (code, details) == (Status.ABORTED, "no 3")
        assert trailers["attempt"] == "3"
        error = await error_of(call)
        assert (error.code(), error.details()) == (code, details)
        assert error.trailing_metadata()["attempt"] == "3"
        assert call.done()
        assert told == [call]


@pytest.mark.parametrize("code", ["ABORTED", "INTERNAL", "DEADLINE_EXCEEDED", "OK"])
async def test_other_codes_are_not_retried(code):
    script = Script(Step(code))
    async with scripted(script, retrying()) as channel:
        assert await begin(channel, "unary_unary", b"x").code() is Status[code]
        assert len(script.attempts) == 1


async def test_any_code_can_be_retried():
    codes = ["INTERNAL", "RESOURCE_EXHAUSTED", "CANCELLED"]
    script = Script(*map(Step, codes), OK)
    async with scripted(script, retrying(retryableStatusCodes=codes)) as channel:
        await begin(channel, "unary_unary", b"x")
        assert len(script.attempts) == 4


async def test_without_a_policy_a_call_that_was_sent_is_not_retried():
    script = Script(FAIL)
    async with scripted(script, ServiceConfig()) as channel:
        await error_of(begin(channel, "unary_unary", b"x"))
        assert len(script.attempts) == 1


class Insists:
    """A policy that goes by the call alone."""

    def picker(self, rng: Any, now: Any) -> Insists:
        return self

    def pick(self, ready: Any, info: Any) -> Any:
        return ready[0]


async def test_a_policy_that_insists_is_overruled():
    script = Script(FAIL, FAIL, OK)
    async with scripted(script, retrying(), policy=Insists()) as channel:
        await begin(channel, "unary_unary", b"x")
        assert script.attempts[0].server == "a"
        assert len({attempt.server for attempt in script.attempts}) == 3


async def test_the_same_endpoint_is_better_than_none():
    script = Script(FAIL, OK)
    async with scripted(script, retrying(), servers=("a",)) as channel:
        await begin(channel, "unary_unary", b"x")
        assert [attempt.server for attempt in script.attempts] == ["a", "a"]


async def test_the_callers_metadata_goes_with_each_attempt():
    script = Script(FAIL, OK)
    async with scripted(script, retrying()) as channel:
        sent = (("key", "value"), ("grpc-previous-rpc-attempts", "7"))
        await begin(channel, "unary_unary", b"x", metadata=sent)
        assert [attempt.metadata["key"] for attempt in script.attempts] == ["value"] * 2
        assert [attempt.previous for attempt in script.attempts] == ["7", "1"]


# ---- "gRPC's call deadline applies across all attempts"


async def test_the_deadline_is_that_of_all_attempts_together():
    script = Script(FAIL, Step(lasts=None))
    async with scripted(script, retrying()) as channel:
        with anyio.fail_after(5):
            error = await error_of(begin(channel, "unary_unary", b"x", timeout=0.3))
        assert error.code() is Status.DEADLINE_EXCEEDED
        assert len(script.attempts) == 2
        await until(lambda: script.attempts[1].cancelled)


@pytest.mark.parametrize("shape", SHAPES)
async def test_no_attempt_is_waited_for_beyond_the_deadline(shape):
    script = Script(Step(FAILS, pushback="60000"))
    async with scripted(script, retrying()) as channel:
        with anyio.fail_after(5):
            error = await error_of(begin(channel, shape, b"x", timeout=30))
        assert (error.code(), error.details()) == (Status.UNAVAILABLE, "no 1")
        assert len(script.attempts) == 1


async def test_the_deadline_holds_while_no_endpoint_can_take_the_next_attempt():
    script = Script(FAIL)
    async with scripted(script, retrying(), servers=("a",)) as channel:
        call = begin(channel, "unary_unary", b"x", timeout=0.3, wait_for_ready=True)
        channel._dispatch.pick_other = lambda *_: None
        assert (await error_of(call)).code() is Status.DEADLINE_EXCEEDED
        assert len(script.attempts) == 1


# ---- "Pushback"


async def test_a_server_that_names_a_delay_gets_it():
    script = Script(Step(FAILS, pushback="300"), OK)
    async with scripted(script, retrying()) as channel:
        await begin(channel, "unary_unary", b"x")
        assert 0.2 <= script.gaps[0] < 5  # as it arrives: both may be late


@pytest.mark.parametrize("pushback", ["-1", "soon", "99999999999"])
async def test_a_server_that_wants_no_retry_gets_none(pushback):
    script = Script(Step(FAILS, pushback=pushback))
    async with scripted(script, retrying()) as channel:
        error = await error_of(begin(channel, "unary_unary", b"x"))
        assert error.details() == "no 1"
        assert len(script.attempts) == 1


async def test_a_delay_makes_no_attempts_that_are_not_there():
    script = Script(Step(FAILS, pushback="0"))
    async with scripted(script, retrying(maxAttempts=2)) as channel:
        await error_of(begin(channel, "unary_unary", b"x"))
        assert len(script.attempts) == 2


async def test_a_delay_makes_no_other_code_one_to_retry():
    script = Script(Step("ABORTED", pushback="0"))
    async with scripted(script, retrying()) as channel:
        await error_of(begin(channel, "unary_unary", b"x"))
        assert len(script.attempts) == 1


# ---- "When Retries are Valid": committed by response headers


@pytest.mark.parametrize("shape", ["unary_stream", "stream_stream"])
async def test_no_retry_after_the_first_response(shape):
    script = Script(Step(FAILS, messages=2, lasts=0.05))
    async with scripted(script, retrying()) as channel:
        call = begin(channel, shape, b"x")
        assert (await call.read()).startswith(b"0@")
        assert (await call.read()).startswith(b"1@")
        with pytest.raises(grpc.aio.AioRpcError, match="no 1"):
            await call.read()
        assert len(script.attempts) == 1


@pytest.mark.parametrize("shape", SHAPES)
async def test_no_retry_after_headers_that_say_something(shape):
    script = Script(Step(FAILS, headers=(("begin", "b"),)))
    async with scripted(script, retrying()) as channel:
        error = await error_of(begin(channel, shape, b"x"))
        assert ("begin", "b") in tuple(error.initial_metadata())
        assert len(script.attempts) == 1


@pytest.mark.parametrize("shape", SHAPES[1:])
async def test_no_retry_after_the_caller_knows_that_headers_say_nothing(shape):
    script = Script(Step(FAILS, headers=(), lasts=0.3))
    async with scripted(script, retrying()) as channel:
        call = begin(channel, shape, b"x")
        assert not await call.initial_metadata()
        assert not call.done()
        await error_of(call)
        assert len(script.attempts) == 1


async def test_asking_for_headers_does_not_commit():
    script = Script(FAIL, Step(headers=(("begin", "b"),), messages=1))
    async with scripted(script, retrying()) as channel:
        call = begin(channel, "unary_stream", b"x")
        assert (await call.initial_metadata())["begin"] == "b"
        assert len(script.attempts) == 2
        await result(call)


# ---- "Memory Management": what is buffered

SMALL = RetryLimits(share=10.0, buffer=10)


@pytest.mark.parametrize("shape", ["stream_unary", "stream_stream"])
@pytest.mark.parametrize(("requests", "attempts"), [([b"12345"] * 2, 2), ([b"12345"] * 3, 1)])
async def test_request_streams_are_replayed_as_long_as_they_are_kept(shape, requests, attempts):
    script = Script(Step(FAILS, takes=len(requests)), OK)
    async with scripted(script, retrying(), limits=SMALL) as channel:
        call = begin(channel, shape, *requests, b"")
        if attempts == 2:
            await result(call)
            assert [a.requests for a in script.attempts] == [requests, [*requests, b""]]
        else:
            assert (await error_of(call)).details() == "no 1"
            assert len(script.attempts) == 1


@pytest.mark.parametrize("shape", ["unary_unary", "unary_stream"])
@pytest.mark.parametrize(("size", "attempts"), [(10, 2), (11, 1)])
async def test_a_request_that_is_too_large_is_sent_once(shape, size, attempts):
    script = Script(FAIL, Step())
    async with scripted(script, retrying(), limits=SMALL) as channel:
        await begin(channel, shape, b"x" * size).code()
        assert len(script.attempts) == attempts


async def test_sizes_are_those_of_the_wire():
    script = Script(FAIL, OK)
    async with scripted(script, retrying(), limits=SMALL) as channel:
        start = method(channel, "unary_unary", request_serializer=lambda text: text.encode() * 3)
        assert await start("1234").code() is Status.UNAVAILABLE
        assert await start("123").code() is Status.OK


async def test_what_is_committed_is_no_longer_kept():
    script = Script(Step(headers=(), messages=0, lasts=None))
    async with scripted(script, retrying()) as channel:
        call = method(channel, "stream_stream")()
        await call.write(b"1")
        await call.done_writing()
        assert not await call.initial_metadata()
        assert call.request.is_spent
        assert not call.request._kept
        call.cancel()


@pytest.mark.parametrize("shape", ["stream_unary", "stream_stream"])
async def test_written_requests_are_replayed(shape):
    script = Script(Step(FAILS, takes=2), Step(FAILS, takes=1), OK)
    async with scripted(script, retrying()) as channel:
        call = method(channel, shape)(timeout=10)
        await call.write(b"1")
        await call.write(b"2")
        await until(lambda: len(script.attempts) == 3)
        await call.write(b"3")
        await call.done_writing()
        await call.done_writing()
        assert b"".join(await result(call)).startswith(b"0@")
        assert script.attempts[-1].requests == [b"1", b"2", b"3"]
        with pytest.raises(asyncio.InvalidStateError):
            await call.write(b"4")


async def test_write_and_read_in_turn():
    async with serving("a") as (a,):
        how = ChannelOptions(service_config=retrying())
        async with open_channel(a, options=how) as (channel, _):
            call = method(channel, "stream_stream")()
            for request in (b"1", b"2", b"3"):
                await call.write(request)
                assert await call.read() == request + b"@a"
            await call.done_writing()
            with pytest.raises(asyncio.InvalidStateError):
                await call.write(b"4")
            assert await call.read() is grpc.aio.EOF


async def write_on(call: Any) -> None:
    """Write until no more is taken, and then wait for that."""
    while True:
        await call.write(b"x" * 1_000_000)


@pytest.mark.parametrize("shape", ["stream_unary", "stream_stream"])
@pytest.mark.parametrize("code", ["ABORTED", "OK"])
async def test_a_write_that_comes_too_late_meets_the_end(shape, code):
    script = Script(Step(code, takes=0, lasts=None))
    async with scripted(script, retrying()) as channel:
        call = method(channel, shape)()
        asyncio.get_running_loop().call_later(0.5, script.go.set)
        with pytest.raises((grpc.aio.AioRpcError, asyncio.InvalidStateError)) as caught:
            await write_on(call)
        if caught.type is grpc.aio.AioRpcError:  # or the end was known before the next write
            # grpc.aio does not look for the status when a message cannot be sent.
            words = {"no 1", "Internal error from Core"}
            assert caught.value.details() in words
        with pytest.raises(asyncio.InvalidStateError):
            await call.write(b"x")
        await call.done_writing()


async def test_a_write_that_is_cancelled_cancels_the_call():
    script = Script(Step(takes=0, lasts=None))
    async with scripted(script, retrying()) as channel:
        call = method(channel, "stream_unary")()
        with anyio.move_on_after(0.2) as scope:
            await write_on(call)
        assert scope.cancelled_caught
        assert call.cancelled()


async def test_a_call_that_was_cancelled_takes_no_request():
    script = Script(Step(takes=0, lasts=None))
    async with scripted(script, retrying()) as channel:
        call = method(channel, "stream_unary")()
        asyncio.get_running_loop().call_later(0.2, call.cancel)
        with pytest.raises(asyncio.InvalidStateError):
            await write_on(call)


async def test_styles_of_requests_do_not_mix():
    script = Script(OK)
    async with scripted(script, retrying()) as channel:
        call = begin(channel, "stream_unary", b"x")
        with pytest.raises(grpc.aio.UsageError):
            await call.write(b"y")
        with pytest.raises(grpc.aio.UsageError):
            await call.done_writing()
        await call


# ---- "Throttling Retry Attempts and Hedged RPCs"


async def test_throttling_pauses_retries_until_enough_succeeds():
    script = Script(FAIL, FAIL, FAIL, FAIL, OK, OK, OK, FAIL, OK)
    config = retrying(maxAttempts=5)
    policy = {"maxTokens": 6, "tokenRatio": 0.5}
    throttled = with_method(policy, retryPolicy=config.to_json()["methodConfig"][0]["retryPolicy"])
    async with scripted(script, throttled) as channel:
        start = method(channel, "unary_unary")
        await error_of(start(b"x"))  # 6 tokens: 5, 4, and at 3 no further attempt
        assert len(script.attempts) == 3
        await error_of(start(b"x"))  # 2
        assert len(script.attempts) == 4
        for _ in range(3):  # 3.5
            await start(b"x")
        await error_of(start(b"x"))  # 2.5
        assert len(script.attempts) == 8


async def test_other_failures_do_not_throttle():
    script = Script(*[Step("INVALID_ARGUMENT")] * 10, FAIL, OK)
    policy = {"maxTokens": 2, "tokenRatio": 0.1}
    retry = retrying().to_json()["methodConfig"][0]["retryPolicy"]
    async with scripted(script, with_method(policy, retryPolicy=retry)) as channel:
        for _ in range(10):
            await error_of(begin(channel, "unary_unary", b"x"))
        assert (await error_of(begin(channel, "unary_unary", b"x"))).details() == "no 11"


async def test_a_server_that_wants_no_retry_throttles():
    script = Script(Step("INTERNAL", pushback="-1"), FAIL, OK)
    policy = {"maxTokens": 4, "tokenRatio": 0.1}
    retry = retrying().to_json()["methodConfig"][0]["retryPolicy"]
    async with scripted(script, with_method(policy, retryPolicy=retry)) as channel:
        await error_of(begin(channel, "unary_unary", b"x"))
        assert (await error_of(begin(channel, "unary_unary", b"x"))).details() == "no 2"


async def test_the_budget_pays_for_retries():
    script = Script(FAIL)
    limits = RetryLimits(share=0.2, per_second=0.0)
    async with scripted(script, retrying(), limits=limits) as channel:
        for _ in range(50):
            await error_of(begin(channel, "unary_unary", b"x"))
        assert 55 <= len(script.attempts) <= 60


async def pays_only_while_it_helps(channel: Channel, script: Script) -> None:
    """With nothing but 10 attempts per second; all that it is told at first is that calls fail."""
    for _ in range(20):
        await error_of(begin(channel, "unary_unary", b"x"))
    assert len(script.attempts) == 24
    script.steps = [*[FAIL] * 24, *[OK] * 10, FAIL, OK]
    for _ in range(11):  # that most end well tells that it is worth it
        await begin(channel, "unary_unary", b"x")
    assert len(script.attempts) == 36


async def test_where_everything_fails_the_budget_pays_for_hardly_any():
    script = Script(FAIL)
    limits = RetryLimits(share=0.0, per_second=10.0)
    async with scripted(script, retrying(initialBackoff="0.001s"), limits=limits) as channel:
        await pays_only_while_it_helps(channel, script)


# ---- "Transparent Retries"

NOBODY = Endpoint(service="echo", id="dead", address="127.0.0.1:1")


async def test_attempts_that_no_server_saw_do_not_count():
    script = Script(FAIL, OK)
    async with scripted(script, retrying(maxAttempts=2)) as channel:
        dispatch = channel._dispatch
        dead = dispatch._connect(NOBODY)
        await until(lambda: dead._channel.get_state() is grpc.ChannelConnectivity.TRANSIENT_FAILURE)
        pick = dispatch.pick

        def pick_the_dead(_: Any) -> Any:
            dispatch.pick = pick
            return dead

        dispatch.pick = pick_the_dead
        await begin(channel, "unary_unary", b"x", timeout=10)
        assert [attempt.previous for attempt in script.attempts] == [None, "1"]


async def test_a_call_that_finds_no_endpoint_is_one_to_retry():
    script = Script(OK)
    how = ChannelOptions(service_config=retrying(initialBackoff="100s", maxBackoff="100s"))
    async with (
        open_channel(NOBODY, options=how) as (channel, resolver),
        ScriptedServer("a", script) as server,
    ):
        channel._dispatch.plans.die = lambda: 0.005
        call = begin(channel, "unary_unary", b"x")
        await resting(channel)
        resolver.say(server.endpoint)
        assert (await call).startswith(b"0@a")
        assert script.attempts[0].previous == "1"


async def test_a_call_that_never_finds_an_endpoint_is_told_why():
    async with open_channel(NOBODY, options=ChannelOptions(service_config=retrying())) as (c, _):
        with anyio.fail_after(5):
            error = await error_of(begin(c, "unary_unary", b"x", timeout=20))
        assert error.code() is Status.UNAVAILABLE
        assert "1 known: 1 failing" in error.details() or "failed to connect" in error.details()


# ---- waiting for the next attempt


@pytest.mark.parametrize("shape", SHAPES)
async def test_cancel_while_waiting(shape):
    script = Script(Step(FAILS, pushback="100000"))
    async with scripted(script, retrying()) as channel:
        call = begin(channel, shape, b"x")
        told: list[Any] = []
        call.add_done_callback(told.append)
        await resting(channel)
        assert not call.done()
        assert call.cancel() is True
        assert call.cancel() is False
        assert call.cancelled()
        assert told == [call]
        assert await call.code() is Status.CANCELLED
        with pytest.raises(asyncio.CancelledError):
            await result(call)
        await quiet(channel)
        assert len(script.attempts) == 1


@pytest.mark.parametrize("shape", SHAPES)
async def test_cancel_scopes_while_waiting(shape):
    script = Script(Step(FAILS, pushback="100000"))
    async with scripted(script, retrying()) as channel:
        with anyio.move_on_after(0.2) as scope:
            await result(call := begin(channel, shape, b"x"))
        assert scope.cancelled_caught
        assert call.cancelled()
        await quiet(channel)


async def test_an_awaiter_that_is_cancelled_gets_no_further_attempt():
    script = Script(Step(lasts=None))
    async with scripted(script, retrying(retryableStatusCodes=["CANCELLED"])) as channel:
        with anyio.move_on_after(0.2):
            await begin(channel, "unary_unary", b"x")
        await quiet(channel)
        assert len(script.attempts) == 1


@pytest.mark.parametrize("shape", SHAPES)
async def test_close_while_waiting(shape):
    script = Script(Step(FAILS, pushback="100000"))
    async with scripted(script, retrying()) as channel:
        call = begin(channel, shape, b"x")
        await resting(channel)
        await channel.close()
        error = await error_of(call)
        assert (error.code(), error.details()) == (Status.CANCELLED, "Channel closed.")


async def test_close_while_an_attempt_runs():
    script = Script(Step(lasts=None))
    async with scripted(script, retrying(retryableStatusCodes=["CANCELLED"])) as channel:
        call = begin(channel, "unary_unary", b"x")
        await until(lambda: script.attempts)
        await channel.close()
        assert (await error_of(call)).code() is Status.CANCELLED
        assert len(script.attempts) == 1


@pytest.mark.parametrize("shape", ["unary_stream", "stream_stream"])
async def test_a_stream_that_nobody_holds_is_not_tried_again(shape):
    script = Script(Step(FAILS, pushback="200"))
    async with scripted(script, retrying()) as channel:
        call = begin(channel, shape, b"x")
        await resting(channel)
        del call
        gc.collect()
        assert channel.status().resting == 0
        await asyncio.sleep(0.3)
        assert len(script.attempts) == 1


async def test_a_unary_call_that_nobody_awaits_is_tried_again():
    script = Script(Step(FAILS, pushback="50"), OK)
    async with scripted(script, retrying()) as channel:
        begin(channel, "unary_unary", b"x")
        await resting(channel)
        gc.collect()
        await until(lambda: len(script.attempts) == 2)
        await quiet(channel)


async def test_several_wait_for_the_same_call():
    script = Script(FAIL, FAIL, OK)
    async with scripted(script, retrying()) as channel:
        call = begin(channel, "unary_unary", b"x")
        answers: list[Any] = []

        async def wait(question: Any) -> None:
            answers.append(await question)

        async with anyio.create_task_group() as tasks:
            for question in (call, call, call.code(), call.initial_metadata(), call.details()):
                tasks.start_soon(wait, question)
        assert len(answers) == 5


# ---- interceptors, changes of the config


class Counting(grpc.aio.UnaryUnaryClientInterceptor):
    def __init__(self) -> None:
        self.seen: list[str | None] = []

    async def intercept_unary_unary(self, continuation, details, request):
        metadata = dict(details.metadata or ())
        self.seen.append(metadata.get("grpc-previous-rpc-attempts"))
        return await continuation(details, request)


async def test_interceptors_see_each_attempt():
    counting = Counting()
    script = Script(FAIL, FAIL, Step("ABORTED"))
    how = ConnectionOptions(interceptors=[counting])
    async with scripted(script, retrying(), connection=how) as channel:
        error = await error_of(begin(channel, "unary_unary", b"x"))
        assert error.code() is Status.ABORTED
        assert counting.seen == [None, "1", "2"]
        await quiet(channel)


async def test_a_config_that_changes_under_load_loses_no_call():
    configs = [ServiceConfig(), retrying(), with_method(timeout="10s"), retrying(maxAttempts=2)]
    script = Script(Step(messages=1, lasts=0.002))
    async with scripted(script, ServiceConfig()) as channel:
        starts = [method(channel, shape) for shape in ("unary_unary", "unary_stream")]
        going, answered = True, 0

        async def caller(start: Any) -> None:
            nonlocal answered
            while going:
                await result(start(b"x"))
                answered += 1

        async with anyio.create_task_group() as tasks:
            for start in starts * 8:
                tasks.start_soon(caller, start)
            for config in configs * 3:
                channel._dispatch.plans.adopt(config)
                before = answered
                await until(lambda before=before: answered > before + 20)
            going = False
        script.steps = [FAIL, OK]
        script.attempts.clear()
        await starts[0](b"x")  # as the last config says, though the stub is older
        assert len(script.attempts) == 2
        await quiet(channel)
