"""What channels do around the policy's choice, with servers that are sick or full."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest

from meshkit.balancer import CircuitBreaker, OutlierDetection, Resilience, SlowStart
from meshkit.client import Channel, ChannelOptions
from meshkit.events import EndpointEjected, EndpointReadmitted, Event
from tests.client.fakes import (
    SHAPES,
    EchoServer,
    begin,
    error_of,
    method,
    open_channel,
    result,
    serving,
    until,
)

pytestmark = pytest.mark.anyio

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


def resilience(**detection: object) -> ChannelOptions:
    return ChannelOptions(
        policy="round_robin",
        resilience=Resilience(outlier_detection=OutlierDetection(**detection)),
    )


def limited(**limits: int) -> ChannelOptions:
    return ChannelOptions(
        policy="round_robin", resilience=Resilience(circuit_breaker=CircuitBreaker(**limits))
    )


async def codes(channel: Channel, shape: str, calls: int) -> Counter[str]:
    """How so many calls end, one after the other."""
    ends: Counter[str] = Counter()
    for _ in range(calls):
        call = begin(channel, shape, b"x")
        try:
            await result(call)
        except grpc.aio.AioRpcError as error:
            ends[error.code().name] += 1
        else:
            ends["OK"] += 1
    return ends


@asynccontextmanager
async def one_sick_of_three(
    code: grpc.StatusCode = UNAVAILABLE, **detection: object
) -> AsyncIterator[tuple[Channel, EchoServer, list[Event]]]:
    events: list[Event] = []
    async with serving("a", "b", "c") as servers:
        servers[1].sick = code
        options = resilience(**detection)
        async with open_channel(*servers, options=options, hook=events.append) as (channel, _):
            yield channel, servers[1], events


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_server_that_fails_fast_is_ejected(shape):
    async with one_sick_of_three() as (channel, _, events):
        assert await codes(channel, shape, 60) == {"OK": 55, "UNAVAILABLE": 5}
        [ejected] = [event for event in events if isinstance(event, EndpointEjected)]
        assert ejected.endpoint.id == "b"
        assert ejected.details()["reason"] == "5 failures in a row, the last UNAVAILABLE"
        assert repr(channel) == "<Channel 'echo': 2 ready, 1 ejected | 0 in flight>"
        status = {endpoint.endpoint.id: endpoint for endpoint in channel.status().endpoints}
        assert (status["b"].state, status["b"].ejections, status["b"].failed) == ("ejected", 1, 5)
        assert (status["a"].state, status["a"].ejections) == ("ready", 0)
        assert status["b"].success_rate < 0.1 < 0.9 < status["a"].success_rate
        assert 0.0 < status["a"].latency < 1.0


@pytest.mark.parametrize("shape", SHAPES)
async def test_one_call_brings_it_back_when_it_is_well(shape):
    async with one_sick_of_three(base_ejection_time=0.1) as (channel, sick, events):
        await codes(channel, shape, 15)
        sick.sick = None
        while not any(isinstance(event, EndpointReadmitted) for event in events):
            assert await codes(channel, shape, 1) == {"OK": 1}
        assert str(channel.counts()) == "3 ready"


async def test_calls_at_the_same_time_are_heard_one_by_one():
    async with one_sick_of_three() as (channel, _, _):
        for _ in range(3):  # two of each six meet the sick one, and end at the same moment
            calls = [begin(channel, "unary_unary", b"x") for _ in range(6)]
            ends = await asyncio.gather(*map(error_or_none, calls))
            assert [end.code() for end in ends if end is not None] == [UNAVAILABLE] * 2
        assert channel.counts().ejected == 1


async def error_or_none(call: object) -> grpc.aio.AioRpcError | None:
    try:
        await result(call)
    except grpc.aio.AioRpcError as error:
        return error
    return None


async def test_what_the_application_says_ejects_nobody():
    async with one_sick_of_three(grpc.StatusCode.NOT_FOUND) as (channel, _, events):
        assert await codes(channel, "unary_unary", 60) == {"OK": 40, "NOT_FOUND": 20}
        assert not [event for event in events if isinstance(event, EndpointEjected)]
        assert sum(endpoint.failed for endpoint in channel.status().endpoints) == 0


async def test_who_gives_up_ejects_nobody():
    async with serving("a", "b") as servers, open_channel(*servers) as (channel, _):
        for _ in range(20):
            call = begin(channel, "unary_unary", b"sleep:10")
            await until(lambda: any(server.active for server in servers))
            call.cancel()
            assert await call.code() is grpc.StatusCode.CANCELLED
            await until(lambda: not any(server.active for server in servers))
        assert str(channel.counts()) == "2 ready"


async def test_deadlines_that_pass_eject_who_hangs():
    async with serving("a", "b") as servers, open_channel(*servers) as (channel, _):
        calls = [begin(channel, "unary_unary", b"sleep:10", timeout=0.2) for _ in range(20)]
        for call in calls:
            assert (await error_of(call)).code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert channel.counts().ejected == 1  # of two


async def test_all_ejected_is_a_reason_of_its_own():
    options = resilience(max_ejection_percent=100, panic_threshold=0, base_ejection_time=0.3)
    async with serving("a", "b") as servers:
        for server in servers:
            server.sick = UNAVAILABLE
        async with open_channel(*servers, options=options) as (channel, _):
            assert await codes(channel, "unary_unary", 10) == {"UNAVAILABLE": 10}
            words = (await error_of(begin(channel, "unary_unary", b"x"))).details()
            assert words.startswith(
                "meshkit: all connected endpoints of 'echo' are ejected, since their calls failed "
                "(registry fake://, synced 3.2 s ago; 2 known: 2 ejected). Next: "
            )
            for server in servers:
                server.sick = None
            patient = begin(channel, "unary_unary", b"x", wait_for_ready=True)
            assert await asyncio.wait_for(patient, 5.0) in (b"x@a", b"x@b")


async def test_an_endpoint_at_its_limit_is_passed_over():
    options = limited(max_requests_per_endpoint=1)
    async with (
        serving("a", "b", "c") as servers,
        open_channel(*servers, options=options) as (channel, _),
    ):
        running = [begin(channel, "unary_unary", b"sleep:0.2") for _ in range(3)]
        assert [e.pending for e in channel.status().endpoints] == [1, 1, 1]
        error = await error_of(begin(channel, "unary_unary", b"x"))
        assert error.code() is UNAVAILABLE
        assert error.details() == (
            "meshkit: no more calls to 'echo' from here: each endpoint that could take it has 1 "
            "under way, as many as max_requests_per_endpoint allows."
        )
        await asyncio.gather(*map(result, running))
        assert (await begin(channel, "unary_unary", b"x")).startswith(b"x@")


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_service_at_its_limit_takes_no_call(shape):
    async with (
        serving("a", "b", "c") as servers,
        open_channel(*servers, options=limited(max_requests=2)) as (channel, _),
    ):
        running = [begin(channel, shape, b"sleep:0.1") for _ in range(2)]
        error = await error_of(begin(channel, shape, b"x"))
        assert "2 are under way, as many as max_requests allows" in error.details()
        await asyncio.gather(*map(result, running))
        assert repr(channel).endswith("| 0 in flight>")
        await result(begin(channel, shape, b"x"))


async def test_patient_calls_wait_for_their_turn():
    async with (
        serving("a", "b") as servers,
        open_channel(*servers, options=limited(max_requests=2)) as (channel, _),
    ):
        ended: list[int] = []

        async def call(number: int) -> None:
            await method(channel, "unary_unary")(b"sleep:0.05", wait_for_ready=True)
            ended.append(number)

        tasks = [asyncio.create_task(call(number)) for number in range(8)]
        await until(lambda: channel.status().waiting == 6)
        while not all(task.done() for task in tasks):
            assert sum(server.active for server in servers) <= 2
            await asyncio.sleep(0.005)
        await asyncio.gather(*tasks)
        assert [number // 2 for number in ended] == [0, 0, 1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize("shape", ["unary_unary", "unary_stream"])
async def test_a_call_that_cannot_be_sent_takes_no_place(shape):
    async with (
        serving("a") as servers,
        open_channel(*servers, options=limited(max_requests=1)) as (channel, _),
    ):
        for _ in range(3):
            with pytest.raises(TypeError):
                await result(method(channel, shape)("not bytes"))
        assert (await result(begin(channel, shape, b"x")))[0] == b"x@a"


async def test_a_server_that_comes_later_starts_slowly():
    options = ChannelOptions(
        policy="round_robin",
        resilience=Resilience(slow_start=SlowStart(window=1000.0, min_weight_percent=0.0)),
    )
    async with (
        serving("a", "b") as servers,
        open_channel(servers[0], options=options) as (
            channel,
            resolver,
        ),
    ):
        resolver.say(*servers)
        await until(lambda: channel.counts().ready == 2)
        await codes(channel, "unary_unary", 40)
        started = {e.endpoint.id: e.started for e in channel.status().endpoints}
        assert started["b"] < 5
