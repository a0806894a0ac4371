"""A service config reaches the calls of a running channel, and is told by its status."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import anyio
import grpc
import grpc_health.v1.health
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from meshkit.balancer import PowerOfTwo, Resilience, RoundRobin, SlowStart
from meshkit.client import Channel, ChannelOptions, ConnectionOptions
from meshkit.endpoint import Endpoint
from meshkit.errors import ConfigError
from meshkit.service_config import DEFAULTS, ServiceConfig
from tests.client.fakes import (
    EchoServer,
    begin,
    error_of,
    open_channel,
    pending,
    result,
    serving,
    until,
)

pytestmark = pytest.mark.anyio


def config(**fields) -> ServiceConfig:
    return ServiceConfig.parse(fields)


TURNS = config(loadBalancingConfig=[{"round_robin": {}}])
TWO_CHOICES = config(loadBalancingConfig=[{"p2c": {}}])
PATIENT = config(methodConfig=[{"name": [{}], "timeout": "9s"}])


def started(channel: Channel) -> dict[str, int]:
    return {endpoint.endpoint.id: endpoint.started for endpoint in channel.status().endpoints}


def said(channel: Channel) -> dict[str, str]:
    """The fields that are not meshkit's own, and whose they are."""
    sources = channel.status().config_sources
    return {field: source for field, source in sources.items() if source != "default"}


async def test_a_published_policy_is_used_at_once_and_what_nodes_learnt_stays() -> None:
    async with serving("a", "b", "c") as servers, open_channel(*servers) as (channel, resolver):
        slow = [begin(channel, "unary_unary", b"sleep:0.3") for _ in range(4)]
        await until(lambda: pending(channel) == 4)
        before = started(channel)

        resolver.publish(TURNS)
        await until(lambda: channel.status().service_config.load_balancing_config == RoundRobin())
        assert started(channel) == before
        for call in [begin(channel, "unary_unary", b"x") for _ in range(30)]:
            await result(call)
        assert started(channel) == {name: count + 10 for name, count in before.items()}

        assert [(await result(call))[0][:9] for call in slow] == [b"sleep:0.3"] * 4


async def test_the_status_says_what_holds_and_whose_it_is() -> None:
    options = ChannelOptions(policy="p2c", default_service_config=PATIENT)
    async with open_channel(options=options) as (channel, resolver):
        assert said(channel) == {"loadBalancingConfig": "code", "methodConfig[*].timeout": "mesh"}
        resolver.publish(
            config(
                loadBalancingConfig=[{"round_robin": {}}],
                methodConfig=[{"name": [{}], "timeout": "2s"}],
            )
        )
        await until(lambda: "registry" in channel.status().config_sources.values())
        status = channel.status()
        assert said(channel) == {
            "loadBalancingConfig": "code",
            "methodConfig[*].timeout": "registry",
        }
        assert status.service_config.load_balancing_config == PowerOfTwo()
        assert status.service_config.for_method("/a/b").timeout == 2

        resolver.publish(None)
        await until(lambda: "registry" not in channel.status().config_sources.values())
        assert channel.status().service_config.for_method("/a/b").timeout == 9


async def test_without_any_word_the_default_holds() -> None:
    async with open_channel() as (channel, _):
        assert channel.status().config_sources == {
            "loadBalancingConfig": "default",
            "outlierDetection": "default",
            "circuitBreaker": "default",
            "slowStart": "default",
            "zoneAware": "default",
        }
        assert channel.status().service_config == DEFAULTS


async def test_what_is_done_around_the_policy_follows_the_config() -> None:
    async with serving("a") as servers, open_channel(*servers) as (channel, resolver):
        resolver.publish(config(circuitBreaker={"maxRequests": 1}))
        await until(lambda: said(channel) == {"circuitBreaker": "registry"})
        first = begin(channel, "unary_unary", b"sleep:0.2")
        error = await error_of(begin(channel, "unary_unary", b"x"))
        assert "max_requests" in error.details()
        waiting = begin(channel, "unary_unary", b"x", wait_for_ready=True)
        await result(first)
        assert await result(waiting) == [b"x@a"]

        holding, waiting = (
            begin(channel, "unary_unary", b"sleep:0.2", wait_for_ready=True) for _ in range(2)
        )
        await until(lambda: channel.status().waiting == 1)
        resolver.publish(None)
        await until(lambda: channel.status().waiting == 0)
        await result(holding)
        await result(waiting)


async def test_what_is_given_as_an_argument_is_not_given_in_the_config() -> None:
    calm = Resilience(slow_start=SlowStart(window=0.0))
    assert (
        ChannelOptions(resilience=calm, service_config=PATIENT).config.slow_start == calm.slow_start
    )
    with pytest.raises(ConfigError, match="give slowStart once"):
        ChannelOptions(resilience=calm, service_config=config(slowStart={"window": "1s"}))


async def test_a_policy_is_given_once() -> None:
    with pytest.raises(ConfigError, match="give loadBalancingConfig once"):
        ChannelOptions(policy="p2c", service_config=TURNS)
    assert ChannelOptions(policy="p2c", service_config=PATIENT).config == ServiceConfig(
        load_balancing_config=PowerOfTwo(), method_config=PATIENT.method_config
    )


async def test_no_call_is_lost_while_the_policy_changes() -> None:
    done = 0

    async def call(channel: Channel) -> None:
        nonlocal done
        while True:
            await result(begin(channel, "unary_unary", b"x"))
            done += 1

    async with (
        serving("a", "b") as servers,
        open_channel(*servers) as (channel, resolver),
        anyio.create_task_group() as callers,
    ):
        for _ in range(3):
            callers.start_soon(call, channel)
        for published in (TURNS, TWO_CHOICES, None) * 5:
            resolver.publish(published)
            before = done
            await until(lambda n=before: done >= n + 6)
        callers.cancel_scope.cancel()


async def test_a_subset_is_connected_to_and_grows_without_a_change_of_the_rest() -> None:
    def connected() -> set[str]:
        return {endpoint.endpoint.id for endpoint in channel.status().endpoints}

    names = "abcdef"
    async with serving(*names) as servers, open_channel(*servers) as (channel, resolver):
        assert connected() == set(names)
        resolver.publish(config(subsetting={"subsetSize": 2}))
        await until(lambda: len(connected()) == 2)
        two = connected()
        resolver.publish(config(subsetting={"subsetSize": 4}))
        await until(lambda: len(connected()) == 4)
        assert connected() > two
        resolver.publish(None)
        await until(lambda: connected() == set(names))
        assert channel.status().config_sources["zoneAware"] == "default"


async def test_the_own_zone_is_preferred_as_the_config_says() -> None:
    def endpoint(server: EchoServer, zone: str) -> Endpoint:
        return replace(server.endpoint, zone=zone)

    options = ChannelOptions(zone="near", policy="round_robin")
    async with serving("a", "b") as (near, far), open_channel(options=options) as (channel, say):
        say.publish(config(zoneAware={"minClusterSize": 2}))
        say.say(endpoint(near, "near"), endpoint(far, "far"))
        await channel.warm_up(5.0)
        answers = {(await result(begin(channel, "unary_unary", b"x")))[0] for _ in range(10)}
        assert answers == {b"x@a"}
        say.publish(None)
        await until(lambda: "registry" not in channel.status().config_sources.values())
        answers = {(await result(begin(channel, "unary_unary", b"x")))[0] for _ in range(10)}
        assert answers == {b"x@a", b"x@b"}


@pytest.mark.parametrize("options", [(), (("grpc.max_receive_message_length", -1),)])
async def test_sizes_of_messages_are_limited_by_method(
    options: tuple[tuple[str, int], ...],
) -> None:
    name = {"service": "test.Echo", "method": "UnaryUnary"}
    limits = {"name": [name], "maxRequestMessageBytes": 9}
    default = {"name": [{}], "maxResponseMessageBytes": 12}
    options = ChannelOptions(
        service_config=config(methodConfig=[limits, default]),
        connection=ConnectionOptions(options=options),
    )
    async with serving("a") as servers, open_channel(*servers, options=options) as (channel, _):
        assert await result(begin(channel, "unary_unary", b"123456789")) == [b"123456789@a"]
        error = await error_of(begin(channel, "unary_unary", b"1234567890"))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "Sent message larger than max (10 vs. 9)" in error.details()

        assert len(await result(begin(channel, "unary_stream", b"1234567890"))) == 3
        error = await error_of(begin(channel, "unary_stream", b"12345678901"))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "Received message larger than max (13 vs. 12)" in error.details()


async def test_the_health_of_the_named_service_is_watched() -> None:
    health = grpc_health.v1.health.aio.HealthServicer()
    await health.set("", health_pb2.HealthCheckResponse.SERVING)
    await health.set("part", health_pb2.HealthCheckResponse.NOT_SERVING)
    server = EchoServer("a")
    server.health = health
    async with server, open_channel() as (channel, resolver):
        resolver.publish(config(healthCheckConfig={"serviceName": "part"}))
        resolver.say(server)
        await until(lambda: channel.counts().failing == 1)
        await health.set("part", health_pb2.HealthCheckResponse.SERVING)
        await until(lambda: channel.counts().ready == 1)


class Unsaying(health_pb2_grpc.HealthServicer):
    """As a server that has no such service, and has no word for that."""

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Any) -> None:
        await context.abort(grpc.StatusCode.UNKNOWN, "unknown service Health")


async def test_the_health_of_an_endpoint_without_it_is_not_watched() -> None:
    server = EchoServer("a")
    server.health = Unsaying()
    async with server, open_channel() as (channel, resolver):
        resolver.say(server)
        await until(lambda: channel.counts().failing == 1)
        resolver.say(replace(server.endpoint, id="b", health=False))
        await until(lambda: channel.counts().ready == 1)
