"""Load reports: what is measured, how it gets into trailers, and that gRPC's own clients use it."""

from __future__ import annotations

import asyncio
import contextlib
import json

import grpc
import pytest

from meshkit.errors import ConfigError
from meshkit.orca import TRAILER, LoadReport
from meshkit.server import LoadReports, report_load
from meshkit.server.load import Load
from tests.server.fakes import a_server, dial
from tests.server.ring_pb2_grpc import RingServicer, RingStub

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_task_left")]

ALWAYS = LoadReports(period=1e-9, utilization=lambda: 0.25)


class World:
    """Clocks that a test moves."""

    def __init__(self, **options):
        self.now = self.used = 0.0
        self.load = Load(LoadReports(**options), lambda: self.now, lambda: self.used)

    def report(self, **own):
        trailer = dict(self.load.trailer(own))
        return LoadReport.from_bytes(trailer[TRAILER]) if trailer else None


async def test_what_is_measured():
    world = World(period=2.0)
    assert world.report() is None
    for number in range(10):
        world.load.begin()
        world.load.end(failed=number < 3)
    world.now, world.used = 1.9, 0.5
    assert world.report() is None  # not a whole period yet
    world.now = 2.5
    assert world.report() == LoadReport(cpu_utilization=0.2, rps=4.0, eps=1.2)
    world.load.begin()
    world.now = 4.4
    assert world.report() == LoadReport(cpu_utilization=0.2, rps=4.0, eps=1.2)
    world.now, world.used = 4.5, 2.5
    assert world.report() == LoadReport(cpu_utilization=1.0, rps=0.5)


async def test_the_application_says_how_busy_it_is():
    asked = []
    world = World(utilization=lambda: asked.append(world.now) or 0.75)
    for world.now in (1.0, 1.5, 2.0):
        assert world.report() == LoadReport(application_utilization=0.75)
    assert asked == [1.0, 2.0]  # once a period


async def test_figures_of_one_call_are_put_over_those_measured():
    world = World()
    world.now, world.used = 1.0, 0.5
    own = {"application_utilization": 0.9, "request_cost": {"rows": 3.0}}
    assert world.report(**own) == LoadReport(cpu_utilization=0.5, **own)
    assert world.report() == LoadReport(cpu_utilization=0.5)


async def test_a_period_is_above_0():
    with pytest.raises(ConfigError, match="period"):
        LoadReports(period=0)


async def test_outside_of_a_call_nothing_is_reported():
    report_load(application_utilization=1.0)


class Busy(RingServicer):
    async def One(self, request, context):
        if request == b"own":
            context.set_trailing_metadata((("mine", "too"),))
            report_load(application_utilization=0.5, named_metrics={"queue": 7.0})
        elif request == b"abort":
            await context.abort(grpc.StatusCode.INTERNAL, "planted")
        elif request == b"sorry":
            await context.abort(grpc.StatusCode.NOT_FOUND, "planted")
        elif request == b"raise":
            raise ValueError("planted")
        return request

    async def Fan(self, request, context):
        yield request
        await self.One(request, context)

    async def Sum(self, requests, context):
        return await self.One(b"".join([request async for request in requests]), context)

    async def Chat(self, requests, context):
        async for request in requests:
            await context.write(await self.One(request, context))


class ThreadBusy(RingServicer):
    def One(self, request, context):
        if request == b"own":
            context.set_trailing_metadata((("mine", "too"),))
            report_load(application_utilization=0.5, named_metrics={"queue": 7.0})
        elif request in (b"abort", b"sorry"):
            code = {b"abort": "INTERNAL", b"sorry": "NOT_FOUND"}[request]
            context.abort(grpc.StatusCode[code], "planted")
        elif request == b"code":
            context.set_code(grpc.StatusCode.UNAVAILABLE)
            assert context.time_remaining() is None
        elif request == b"raise":
            raise ValueError("planted")
        return request

    def Fan(self, request, context):
        yield self.One(request, context)

    def Sum(self, requests, context):
        return self.One(b"".join(requests), context)

    def Chat(self, requests, context):
        for request in requests:
            yield self.One(request, context)


def calls(stub, request):
    yield stub.One(request)
    yield stub.Fan(request)
    yield stub.Sum(iter([request]))
    yield stub.Chat(iter([request]))


async def end_of(call):
    """The trailing metadata of a call, however it ends."""
    with contextlib.suppress(grpc.aio.AioRpcError):
        if hasattr(call, "__await__"):
            await call
        else:
            assert [message async for message in call]
    return dict(await call.trailing_metadata())


@pytest.mark.parametrize("servicer", [Busy, ThreadBusy])
async def test_each_call_ends_with_a_report(servicer):
    async with a_server(servicer(), load_reports=ALWAYS) as server, dial(server) as channel:
        for call in calls(RingStub(channel), b"x"):
            report = LoadReport.from_bytes((await end_of(call))[TRAILER])
            assert report.application_utilization == 0.25
        for call in calls(RingStub(channel), b"own"):
            trailing = await end_of(call)
            assert trailing["mine"] == "too"
            report = LoadReport.from_bytes(trailing[TRAILER])
            assert (report.application_utilization, report.named_metrics) == (0.5, {"queue": 7.0})


@pytest.mark.parametrize("servicer", [Busy, ThreadBusy])
async def test_so_does_one_that_fails(servicer, caplog):
    caplog.set_level("CRITICAL", "grpc")
    async with a_server(servicer(), load_reports=ALWAYS) as server, dial(server) as channel:
        for request in (b"abort", b"raise"):
            assert TRAILER in await end_of(RingStub(channel).One(request))


@pytest.mark.parametrize(
    ("servicer", "request_", "failures"),
    [
        (Busy, b"x", 0),
        (Busy, b"abort", 1),
        (Busy, b"raise", 1),
        (Busy, b"sorry", 0),
        (ThreadBusy, b"abort", 1),
        (ThreadBusy, b"code", 1),
        (ThreadBusy, b"raise", 1),
        (ThreadBusy, b"sorry", 0),
    ],
)
async def test_failures_are_those_of_the_server(servicer, request_, failures, caplog):
    caplog.set_level("CRITICAL", "grpc")
    load = Load(LoadReports(period=3600))
    made = a_server(servicer(), load_reports=LoadReports())
    made._calls._surroundings._surround = lambda behavior, method, streams: load.around(
        behavior, streams=streams
    )
    async with made as server, dial(server) as channel:
        await end_of(RingStub(channel).One(request_))
        await server._calls.idle()
        assert (load._calls, load._failed) == (1, failures)


async def test_without_the_option_there_is_no_report():
    async with a_server(Busy()) as server, dial(server) as channel:
        assert await end_of(RingStub(channel).One(b"own")) == {"mine": "too"}


WRR = {
    "loadBalancingConfig": [
        {
            "weighted_round_robin": {
                "enableOobLoadReport": False,
                "blackoutPeriod": "0s",
                "weightUpdatePeriod": "0.1s",
            }
        }
    ]
}


async def test_a_stock_client_sends_less_to_the_server_that_is_busier():
    """grpcio's own weighted_round_robin (C-core), on the reports of real servers."""

    class Counting(RingServicer):
        def __init__(self):
            self.calls = 0

        async def One(self, request, context):
            self.calls += 1
            return request

    idle, busy = Counting(), Counting()
    reports = [LoadReports(period=0.1, utilization=lambda used=used: used) for used in (0.2, 0.8)]
    async with (
        a_server(idle, load_reports=reports[0]) as one,
        a_server(busy, load_reports=reports[1]) as other,
        grpc.aio.insecure_channel(
            f"ipv4:{one.address},{other.address}",
            options=[("grpc.service_config", json.dumps(WRR))],
        ) as channel,
    ):
        stub, loop = RingStub(channel), asyncio.get_running_loop()
        until = loop.time() + 1.0
        while loop.time() < until:  # both have reported, and the client has taken it in
            await stub.One(b"x")
        idle.calls = busy.calls = 0
        for _ in range(400):
            await stub.One(b"x")
    assert idle.calls + busy.calls == 400
    assert idle.calls > 2 * busy.calls > 0, (idle.calls, busy.calls)
