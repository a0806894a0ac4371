"""Hedging, clause by clause of gRFC A6, against servers that follow a script."""

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
from tests.client.fakes import begin, error_of, method, open_channel, pending, result, until
from tests.client.scripted import (
    FAILS,
    Script,
    ScriptedServer,
    Step,
    hedging,
    scripted,
    with_method,
)
from tests.client.test_retries import Counting, pays_only_while_it_helps

pytestmark = pytest.mark.anyio
Status = grpc.StatusCode
HEDGED = ("unary_unary", "unary_stream")
OK = Step(messages=1)
FAIL = Step(FAILS)
HANGS = Step(lasts=None, headers=None)
NOW = {"hedgingDelay": "0s"}
NEVER = {"hedgingDelay": "100s"}


async def quiet(channel: Channel) -> None:
    """Nothing of any call is left."""
    await until(lambda: pending(channel) == 0)
    await until(lambda: not [t for t in asyncio.all_tasks() if "hedge" in t.get_name()])


def servers(script: Script) -> set[str]:
    return {attempt.server for attempt in script.attempts}


# ---- attempts


@pytest.mark.parametrize("shape", HEDGED)
async def test_a_slow_call_is_sent_again_elsewhere_and_the_first_answer_taken(shape):
    script = Script(HANGS, HANGS, OK)
    async with scripted(script, hedging()) as channel:
        began = asyncio.get_running_loop().time()
        call = begin(channel, shape, b"x", timeout=10)
        told: list[Any] = []
        call.add_done_callback(told.append)
        answer = b"".join(await result(call))
        assert answer.startswith(b"0@" + script.attempts[2].server.encode())
        assert await call.code() is Status.OK
        assert (await call.trailing_metadata())["attempt"] == "3"
        assert told == [call]
        assert len(servers(script)) == 3
        assert [attempt.previous for attempt in script.attempts] == [None, "1", "2"]
        assert asyncio.get_running_loop().time() - began >= 0.095  # two delays
        await until(lambda: [a.cancelled for a in script.attempts] == [True, True, False])
        await quiet(channel)
        assert sum(e.started for e in channel.status().endpoints) == 3
        assert sum(e.failed for e in channel.status().endpoints) == 0


@pytest.mark.parametrize("shape", HEDGED)
async def test_a_quick_call_is_sent_once(shape):
    script = Script(OK)
    async with scripted(script, hedging(hedgingDelay="0.4s")) as channel:
        for _ in range(3):
            await result(begin(channel, shape, b"x"))
        await asyncio.sleep(0.5)
        assert len(script.attempts) == 3
        await quiet(channel)


async def test_without_a_delay_all_are_sent_at_once():
    script = Script(HANGS)
    async with scripted(script, hedging(**NOW)) as channel:
        call = begin(channel, "unary_unary", b"x")
        await until(lambda: len(script.attempts) == 3)
        script.go.set()
        assert (await call).startswith(b"@")
        await quiet(channel)


async def test_the_first_answer_wins_whichever_attempt_it_is_of():
    script = Script(Step(messages=1, lasts=None), Step(lasts=1000))
    async with scripted(script, hedging(maxAttempts=2)) as channel:
        call = begin(channel, "unary_unary", b"x")
        await until(lambda: len(script.attempts) == 2)
        script.go.set()
        assert (await call).endswith(script.attempts[0].server.encode())
        assert len(script.attempts) == 2
        await until(lambda: script.attempts[1].cancelled)


async def test_a_stream_goes_on_from_the_attempt_that_began_first():
    script = Script(HANGS, Step(messages=3, lasts=0.1))
    async with scripted(script, hedging(maxAttempts=2)) as channel:
        call = begin(channel, "unary_stream", b"x")
        winner = await call.initial_metadata() is not None and script.attempts[-1].server
        await asyncio.sleep(0.2)  # all of it is there
        expected = [f"{number}@{winner}".encode() for number in range(3)]
        assert [await call.read() for _ in range(3)] == expected
        assert await call.read() is grpc.aio.EOF
        assert await call.read() is grpc.aio.EOF
        assert await call.code() is Status.OK
        call = begin(channel, "unary_stream", b"x")
        assert len([message async for message in call]) == 3
        await quiet(channel)


async def test_a_stream_without_responses():
    script = Script(Step())
    async with scripted(script, hedging()) as channel:
        assert await result(begin(channel, "unary_stream", b"x")) == []


async def test_a_stream_that_fails_after_it_began_is_not_sent_again():
    script = Script(Step(FAILS, messages=1, lasts=0.2))
    async with scripted(script, hedging(**NEVER)) as channel:
        call = begin(channel, "unary_stream", b"x")
        assert (await call.read()).startswith(b"0@")
        with pytest.raises(grpc.aio.AioRpcError, match="no 1"):
            await call.read()
        assert len(script.attempts) == 1
        await quiet(channel)


@pytest.mark.parametrize("shape", ["stream_unary", "stream_stream"])
async def test_request_streams_are_not_hedged(shape):
    script = Script(Step(lasts=0.1))
    async with scripted(script, hedging(**NOW)) as channel:
        await result(begin(channel, shape, b"x"))
        assert len(script.attempts) == 1


async def test_two_attempts_never_run_on_one_endpoint():
    script = Script(HANGS)
    async with scripted(script, hedging(**NOW), servers=("a", "b")) as channel:
        call = begin(channel, "unary_unary", b"x")
        await until(lambda: len(script.attempts) == 2)
        await asyncio.sleep(0.05)
        assert len(script.attempts) == len(servers(script)) == 2
        script.go.set()
        await call


# ---- failures


@pytest.mark.parametrize("shape", HEDGED)
async def test_after_a_non_fatal_failure_the_next_attempt_begins_at_once(shape):
    script = Script(FAIL, OK)
    async with scripted(script, hedging(**NEVER)) as channel:
        with anyio.fail_after(10):
            await result(begin(channel, shape, b"x"))
        assert len(servers(script)) == 2
        await quiet(channel)


@pytest.mark.parametrize("shape", HEDGED)
async def test_a_fatal_failure_ends_all(shape):
    script = Script(HANGS, Step("ABORTED"))
    async with scripted(script, hedging()) as channel:
        call = begin(channel, shape, b"x")
        error = await error_of(call)
        assert (error.code(), error.details()) == (Status.ABORTED, "no 2")
        assert await call.details() == "no 2"
        await until(lambda: script.attempts[0].cancelled)
        await quiet(channel)


@pytest.mark.parametrize("shape", HEDGED)
async def test_when_all_fail_the_last_failure_is_the_answer(shape):
    script = Script(FAIL)
    async with scripted(script, hedging()) as channel:
        call = begin(channel, shape, b"x")
        error = await error_of(call)
        assert (error.code(), error.details()) == (Status.UNAVAILABLE, "no 3")
        assert len(script.attempts) == 3
        await quiet(channel)


async def test_a_failure_waits_for_those_that_run():
    script = Script(Step(messages=1, lasts=None), FAIL)
    async with scripted(script, hedging(maxAttempts=2, **NOW)) as channel:
        call = begin(channel, "unary_unary", b"x")
        await until(lambda: len(script.attempts) == 2)
        await asyncio.sleep(0.1)
        script.go.set()
        assert (await call).startswith(b"0@")
        assert len(script.attempts) == 2


async def test_the_deadline_is_that_of_all_attempts():
    script = Script(HANGS)
    async with scripted(script, hedging()) as channel:
        with anyio.fail_after(5):
            error = await error_of(begin(channel, "unary_unary", b"x", timeout=0.3))
        assert error.code() is Status.DEADLINE_EXCEEDED
        await quiet(channel)


# ---- "Pushback"


@pytest.mark.parametrize("pushback", ["-1", "soon"])
async def test_a_server_that_wants_no_more_gets_no_more_but_others_go_on(pushback):
    script = Script(Step(messages=1, lasts=None), Step(FAILS, pushback=pushback))
    async with scripted(script, hedging(hedgingDelay="0.8s")) as channel:
        call = begin(channel, "unary_unary", b"x")
        await until(lambda: sum(e.failed for e in channel.status().endpoints))
        await asyncio.sleep(1.0)  # the time of another hedge passes
        script.go.set()
        assert (await call).startswith(b"0@")
        assert len(script.attempts) == 2


async def test_a_server_that_wants_no_more_holds_for_later_failures():
    script = Script(Step(FAILS, lasts=None), Step(FAILS, pushback="-1"), OK)
    async with scripted(script, hedging(hedgingDelay="0.8s")) as channel:
        call = begin(channel, "unary_unary", b"x")
        await until(lambda: sum(e.failed for e in channel.status().endpoints))
        script.go.set()
        assert (await error_of(call)).code() is Status.UNAVAILABLE
        assert len(script.attempts) == 2


async def test_a_server_that_wants_no_more_alone():
    script = Script(Step(FAILS, pushback="-1"))
    async with scripted(script, hedging()) as channel:
        assert (await error_of(begin(channel, "unary_unary", b"x"))).details() == "no 1"


async def test_a_server_that_names_a_delay_gets_it():
    script = Script(Step(FAILS, pushback="300"), HANGS, OK)
    async with scripted(script, hedging()) as channel:
        await begin(channel, "unary_unary", b"x")
        assert 0.2 <= script.gaps[0] < 5  # as it arrives: both may be late
        assert script.gaps[1] < script.gaps[0]


# ---- what they cost


async def test_throttling_sends_only_the_first():
    policy = {"maxTokens": 2, "tokenRatio": 1}
    hedged = hedging(**NEVER).to_json()["methodConfig"][0]["hedgingPolicy"]
    script = Script(FAIL, FAIL, OK, FAIL, OK)
    async with scripted(script, with_method(policy, hedgingPolicy=hedged)) as channel:
        start = method(channel, "unary_unary")
        assert (await error_of(start(b"x"))).details() == "no 1"  # 1 token
        assert (await error_of(start(b"x"))).details() == "no 2"  # 0
        await start(b"x")  # 1
        assert (await error_of(start(b"x"))).details() == "no 4"  # 0
        assert len(script.attempts) == 4


async def test_streams_that_end_well_count_against_throttling():
    policy = {"maxTokens": 2, "tokenRatio": 1}
    hedged = hedging(**NEVER).to_json()["methodConfig"][0]["hedgingPolicy"]
    script = Script(FAIL, OK, OK, FAIL, OK)
    async with scripted(script, with_method(policy, hedgingPolicy=hedged)) as channel:
        await error_of(begin(channel, "unary_stream", b"x"))  # 1 token
        for _ in range(2):
            await result(begin(channel, "unary_stream", b"x"))  # 2 tokens
        error = await error_of(begin(channel, "unary_stream", b"x"))  # 1 is not more than half
        assert error.details() == "no 4"


async def test_the_budget_pays_for_hedges():
    script = Script(Step(lasts=None))
    limits = RetryLimits(share=0.2, per_second=0.0)
    async with scripted(script, hedging(hedgingDelay="0.01s"), limits=limits) as channel:
        start = method(channel, "unary_unary")
        calls = [start(b"x") for _ in range(50)]
        await until(lambda: len(script.attempts) > 50)
        script.go.set()
        for call in calls:
            await call
        assert 51 <= len(script.attempts) <= 60


async def test_where_everything_fails_the_budget_pays_for_hardly_any():
    script = Script(FAIL)
    limits = RetryLimits(share=0.0, per_second=10.0)
    async with scripted(script, hedging(**NEVER), limits=limits) as channel:
        await pays_only_while_it_helps(channel, script)


async def test_the_delay_can_be_a_percentile_of_latencies():
    script = Script(Step(lasts=0.02))
    async with scripted(script, hedging(hedgingDelay="0s", hedgingPercentile=90)) as channel:
        start = method(channel, "unary_unary")
        for _ in range(10):
            await start(b"x")
        assert len(script.attempts) == 10  # nothing was known yet
        script.steps = [Step(lasts=0.01)] * 10 + [HANGS, OK]
        await start(b"x")
        assert len(script.attempts) == 12
        assert 0.005 <= script.gaps[-1] < 5  # as it arrives
        await quiet(channel)


async def test_what_loses_against_a_hedge_was_slow():
    script = Script(Step(lasts=0.02))
    config = hedging(hedgingDelay="0.05s", hedgingPercentile=90)
    async with scripted(script, config) as channel:
        start = method(channel, "unary_unary")
        for _ in range(10):
            await start(b"x")
        quantile = channel._dispatch.plans.of("/test.Echo/UnaryUnary").latency
        before = quantile.value
        script.steps = [Step()] * 10 + [Step(lasts=1000), Step()]
        await start(b"x")
        assert len(script.attempts) == 12
        await quiet(channel)
        assert quantile.value > before  # though the one that won was quick


# ---- ending early


@pytest.mark.parametrize("shape", HEDGED)
async def test_cancel(shape):
    script = Script(HANGS)
    async with scripted(script, hedging(**NOW)) as channel:
        call = begin(channel, shape, b"x")
        told: list[Any] = []
        call.add_done_callback(told.append)
        await until(lambda: len(script.attempts) == 3)
        assert not call.done()
        assert call.cancel() is True
        assert call.cancel() is False
        assert call.cancelled()
        assert told == [call]
        with pytest.raises(asyncio.CancelledError):
            await result(call)
        await until(lambda: all(attempt.cancelled for attempt in script.attempts))
        await quiet(channel)


@pytest.mark.parametrize("shape", HEDGED)
async def test_cancel_scopes(shape):
    script = Script(HANGS)
    async with scripted(script, hedging()) as channel:
        with anyio.move_on_after(0.2) as scope:
            await result(call := begin(channel, shape, b"x"))
        assert scope.cancelled_caught
        assert call.cancelled()
        await until(lambda: all(attempt.cancelled for attempt in script.attempts))
        await quiet(channel)


@pytest.mark.parametrize("shape", HEDGED)
@pytest.mark.parametrize("codes", [[FAILS], ["CANCELLED"]])
async def test_close(shape, codes):
    script = Script(HANGS)
    async with scripted(script, hedging(nonFatalStatusCodes=codes, **NOW)) as channel:
        call = begin(channel, shape, b"x")
        await until(lambda: len(script.attempts) == 3)
        await channel.close()
        assert (await error_of(call)).code() is Status.CANCELLED
        assert len(script.attempts) == 3


@pytest.mark.parametrize("read_first", [False, True])
async def test_a_stream_that_nobody_holds_is_cancelled(read_first):
    script = Script(Step(messages=1, lasts=None) if read_first else HANGS)
    async with scripted(script, hedging(**NOW)) as channel:
        call = begin(channel, "unary_stream", b"x")
        await until(lambda: len(script.attempts) >= 1)
        if read_first:
            await call.read()
        del call
        gc.collect()
        await until(lambda: all(attempt.cancelled for attempt in script.attempts))
        await quiet(channel)


async def test_a_stream_that_nobody_holds_is_not_sent_again():
    script = Script(HANGS)
    async with scripted(script, hedging(hedgingDelay="0.2s")) as channel:
        call = begin(channel, "unary_stream", b"x")
        await until(lambda: script.attempts)
        del call
        gc.collect()
        await asyncio.sleep(0.3)
        assert len(script.attempts) == 1


async def test_a_unary_call_that_nobody_awaits_goes_on():
    script = Script(HANGS, OK)
    async with scripted(script, hedging()) as channel:
        begin(channel, "unary_unary", b"x")
        await until(lambda: len(script.attempts) == 2)
        await quiet(channel)


# ---- endpoints, interceptors

NOBODY = Endpoint(service="echo", id="dead", address="127.0.0.1:1")


async def test_an_attempt_that_no_server_saw_does_not_count():
    script = Script(HANGS, OK)
    async with scripted(script, hedging(maxAttempts=2, **NEVER)) as channel:
        dispatch = channel._dispatch
        dead = dispatch._connect(NOBODY)
        await until(lambda: dead._channel.get_state() is grpc.ChannelConnectivity.TRANSIENT_FAILURE)
        pick = dispatch.pick

        def pick_the_dead(_: Any) -> Any:
            dispatch.pick = pick
            return dead

        dispatch.pick = pick_the_dead
        call = begin(channel, "unary_unary", b"x", timeout=10)
        await until(lambda: script.attempts)
        assert script.attempts[0].previous is None
        script.go.set()
        await call


async def test_nobody_answers():
    how = ChannelOptions(service_config=hedging())
    async with open_channel(NOBODY, options=how) as (channel, _):
        error = await error_of(begin(channel, "unary_unary", b"x", timeout=10))
        assert error.code() is Status.UNAVAILABLE


async def test_it_waits_for_an_endpoint():
    script = Script(HANGS, OK)
    how = ChannelOptions(service_config=hedging())
    async with open_channel(options=how) as (channel, resolver):
        call = begin(channel, "unary_unary", b"x")
        async with ScriptedServer("a", script) as a, ScriptedServer("b", script) as b:
            resolver.say(a.endpoint, b.endpoint)
            assert (await call).startswith(b"0@")
        assert len(script.attempts) == 2


async def test_interceptors_see_each_attempt():
    counting = Counting()
    script = Script(HANGS, HANGS, OK)
    how = ConnectionOptions(interceptors=[counting])
    async with scripted(script, hedging(), connection=how) as channel:
        assert (await begin(channel, "unary_unary", b"x")).startswith(b"0@")
        assert counting.seen == [None, "1", "2"]
        await quiet(channel)
