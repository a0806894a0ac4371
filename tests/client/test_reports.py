"""What servers say of their load reaches the policy that wants to know it."""

from collections import Counter

import pytest

from meshkit.balancer import WeightedRoundRobin
from meshkit.client import ChannelOptions
from meshkit.orca import TRAILER, LoadReport
from meshkit.service_config import ServiceConfig
from tests.client.fakes import SHAPES, EchoServer, begin, open_channel, result, until

pytestmark = pytest.mark.anyio

BY_REPORTS = ChannelOptions(policy=WeightedRoundRobin(blackout_period=0.0))


class Reporting(EchoServer):
    """Says at the end of each call how busy it is."""

    def __init__(self, name, said):
        super().__init__(name)
        self.said = said

    async def _one(self, request, context):
        context.set_trailing_metadata(((TRAILER, self.said),))
        return await super()._one(request, context)


def at(utilization):
    return LoadReport(cpu_utilization=utilization, rps=100.0).to_bytes()


def reports(channel):
    nodes = channel._dispatch.balancer.nodes
    return {node.endpoint.id: node.report and node.report.utilization for node in nodes}


async def test_calls_go_by_what_the_servers_report():
    async with (
        Reporting("a", at(0.2)) as a,
        Reporting("b", at(0.6)) as b,
        open_channel(a, b, options=BY_REPORTS) as (channel, _),
    ):
        for _ in range(20):
            await begin(channel, "unary_unary", b"x")
        assert reports(channel) == {"a": 0.2, "b": 0.6}
        before = Counter({server.name: len(server.seen) for server in (a, b)})
        for _ in range(200):
            await begin(channel, "unary_unary", b"x")
        calls = Counter({server.name: len(server.seen) for server in (a, b)}) - before
        assert calls["a"] == pytest.approx(150, abs=8)


@pytest.mark.parametrize("shape", SHAPES)
async def test_calls_of_every_shape_are_asked(shape):
    async with Reporting("a", at(0.2)) as a, open_channel(a, options=BY_REPORTS) as (channel, _):
        await result(begin(channel, shape, b"x"))
        await until(lambda: reports(channel)["a"] is not None)
        assert reports(channel) == {"a": 0.2}


@pytest.mark.parametrize("said", [b"", b"\xff\xff", b"no report"])
async def test_what_is_no_report_changes_nothing(said):
    async with Reporting("a", said) as a, open_channel(a, options=BY_REPORTS) as (channel, _):
        assert await begin(channel, "unary_unary", b"x") == b"x@a"
        assert reports(channel) == {"a": None}


async def test_nobody_is_asked_where_the_policy_does_not_want_to_know():
    async with (
        Reporting("a", at(0.2)) as a,
        open_channel(a) as (channel, resolver),
    ):
        await begin(channel, "unary_unary", b"x")
        assert reports(channel) == {"a": None}
        resolver.publish(
            ServiceConfig.parse({"loadBalancingConfig": [{"weighted_round_robin": {}}]})
        )
        await until(lambda: channel._dispatch.reads_reports)
        await begin(channel, "unary_unary", b"x")
        assert reports(channel) == {"a": 0.2}
