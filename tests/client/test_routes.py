"""Routes act in a channel: on each call, on each of its attempts, and while they change."""

from __future__ import annotations

import random
import socket
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import grpc
import pytest

from meshkit.balancer import Counts, Readiness
from meshkit.client import Channel, ChannelOptions, RetryLimits
from meshkit.client.configuration import Configuration
from meshkit.client.router import Router
from meshkit.endpoint import Endpoint, EndpointSet
from meshkit.service_config import ServiceConfig
from tests.balancer.nodes import Call, FakeNode
from tests.client.fakes import (
    EchoServer,
    FakeResolver,
    begin,
    error_of,
    open_channel,
    pending,
    result,
    serving,
    until,
)
from tests.client.scripted import FAILS, Script, ScriptedServer, Step, hedging, retrying
from tests.client.test_moving import blind

pytestmark = pytest.mark.anyio

V1, V2 = {"version": "v1"}, {"version": "v2"}
TESTER = (("x-tester", "yes"),)
TO_TESTERS = {
    "match": {"headers": [{"name": "x-tester", "exact": "yes"}]},
    "destinations": [V2],
}


def routed(*routes: dict[str, Any], **fields: Any) -> ServiceConfig:
    turns = {"loadBalancingConfig": [{"round_robin": {}}]}
    return ServiceConfig.parse({"routes": routes, **turns, **fields})


def to(*destinations: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"destinations": destinations, **fields}


def labelled(*servers: EchoServer | Endpoint) -> list[Endpoint]:
    """Their endpoints; a server's name begins with its version: `v1a`."""
    found = [s if isinstance(s, Endpoint) else s.endpoint for s in servers]
    return [replace(endpoint, version=endpoint.id[:2]) for endpoint in found]


def opened(*servers: EchoServer | Endpoint, config: ServiceConfig, **options: Any) -> Any:
    options = {"service_config": config} | options
    return open_channel(*labelled(*servers), options=ChannelOptions(**options))


async def answers(channel: Channel, calls: int = 40, **how: Any) -> Counter[str]:
    """Which server has answered how many of so many calls."""
    begun = [begin(channel, "unary_unary", b"x", **how) for _ in range(calls)]
    return Counter([(await result(call))[0].decode()[2:] for call in begun])


async def settle(channel: Channel, config: ServiceConfig, resolver: FakeResolver) -> None:
    resolver.publish(config)
    await until(lambda: channel.status().service_config.routes == config.routes)


# ---- which endpoint a call goes to


async def test_calls_go_where_the_first_route_that_matches_says():
    config = routed(TO_TESTERS, to(V1, match={"path": "/test.Echo/UnaryUnary"}))
    async with (
        serving("v1a", "v1b", "v2a") as servers,
        opened(*servers, config=config) as (
            channel,
            _,
        ),
    ):
        assert await answers(channel) == {"v1a": 20, "v1b": 20}
        assert await answers(channel, metadata=TESTER) == {"v2a": 40}
        streamed = Counter(
            [(await result(begin(channel, "unary_stream", b"x")))[0][2:] for _ in range(30)]
        )
        assert streamed == {b"v1a": 10, b"v1b": 10, b"v2a": 10}  # of no route


async def test_labels_and_their_absence():
    config = routed(to({"metadata": {"track": "beta"}}, match=TO_TESTERS["match"]), to(V1))
    async with serving("v1a", "v1b") as (a, b):
        beta = replace(labelled(b)[0], metadata={"track": "beta", "rack": "7"})
        async with open_channel(
            *labelled(a), beta, options=ChannelOptions(service_config=config)
        ) as (channel, _):
            assert await answers(channel, metadata=TESTER) == {"v1b": 40}
            assert await answers(channel) == {"v1a": 20, "v1b": 20}


async def test_one_user_stays_in_one_version():
    config = routed(to(V1 | {"weight": 1}, V2 | {"weight": 1}, requestHashHeader="x-user"))
    async with serving("v1a", "v2a") as servers, opened(*servers, config=config) as (channel, _):
        versions = Counter()
        for user in range(40):
            [server] = await answers(channel, 3, metadata=(("x-user", f"user-{user}"),))
            versions[server] += 1
        assert min(versions["v1a"], versions["v2a"]) > 5  # the same in every run


async def test_the_default_of_a_mesh_is_weaker_than_what_is_published():
    weak = ChannelOptions(default_service_config=routed(to(V2)))
    async with (
        serving("v1a", "v2a") as servers,
        open_channel(*labelled(*servers), options=weak) as (channel, resolver),
    ):
        assert await answers(channel, 10) == {"v2a": 10}
        await settle(channel, routed(to(V1)), resolver)
        assert channel.status().config_sources["routes"] == "registry"
        assert await answers(channel, 10) == {"v1a": 10}
        assert channel.status().destinations == {"version v1": Counts(ready=1)}
        resolver.publish(routed())
        await until(lambda: channel.status().service_config.routes == ())
        assert channel.status().destinations == {}
        assert await answers(channel, 10) == {"v1a": 5, "v2a": 5}


# ---- changes


async def test_routes_change_while_calls_are_under_way():
    """None is lost, none is sent twice, and what the nodes have learnt stays."""
    async with (
        serving("v1a", "v1b", "v2a") as servers,
        opened(*servers, config=ServiceConfig()) as (channel, resolver),
    ):
        slow = [begin(channel, "unary_unary", b"sleep:0.3") for _ in range(9)]
        await until(lambda: pending(channel) == 9)
        started = {e.endpoint.id: e.started for e in channel.status().endpoints}
        for routes in ([to(V1)], [to(V2)], [TO_TESTERS], [to(V2, V1 | {"weight": 3})], [to(V1)]):
            await settle(channel, routed(*routes), resolver)
            assert {e.endpoint.id: e.pending for e in channel.status().endpoints} == started
        assert await answers(channel, 10) == {"v1a": 5, "v1b": 5}
        assert [len(await result(call)) for call in slow] == [1] * 9
        now = {e.endpoint.id: e.started for e in channel.status().endpoints}
        assert sum(now.values()) == 19


async def test_an_endpoint_that_gets_another_label_keeps_its_connection():
    config = routed(to(V2))
    async with (
        serving("v1a", "v2a") as servers,
        opened(*servers, config=config) as (
            channel,
            resolver,
        ),
    ):
        assert await answers(channel, 10) == {"v2a": 10}
        one, two = labelled(*servers)
        resolver.say(replace(one, version="v2"), replace(two, version="v1"))
        await until(lambda: channel.status().endpoints[0].endpoint.version == "v2")
        assert {e.readiness for e in channel.status().endpoints} == {Readiness.READY}
        assert await answers(channel, 10) == {"v1a": 10}


# ---- further attempts


RETRIED = retrying(maxAttempts=5).method_config
HEDGED = hedging(hedgingDelay="0s").method_config
PATIENT = ServiceConfig.parse(  # with servers that fail
    {
        "outlierDetection": {
            "consecutiveFailures": 0,
            "failurePercentageEjection": {"enforcementPercentage": 0},
        }
    }
)


@pytest.mark.parametrize(("methods", "attempts"), [(RETRIED, 5), (HEDGED, 3)])
async def test_further_attempts_stay_with_the_destination(methods, attempts):
    """At the price of the same endpoint twice, where there are no more of them."""
    routes = routed(to(V1, V2, requestHashHeader="x-user")).routes
    config = replace(PATIENT, routes=routes, method_config=methods)
    limits = RetryLimits(share=4.0)
    script = Script(Step(FAILS))
    async with AsyncExitStack() as stack:
        names = ("v1a", "v1b", "v1c", "v2a", "v2b", "v2c")
        servers = [await stack.enter_async_context(ScriptedServer(n, script)) for n in names]
        channel, _ = await stack.enter_async_context(
            opened(*servers, config=config, retry_limits=limits)
        )
        seen: Counter[str] = Counter()
        for user in range(24):
            script.attempts.clear()
            metadata = None if user % 2 else (("x-user", str(user)),)  # by lot, or by key
            await error_of(begin(channel, "unary_unary", b"x", metadata=metadata))
            await until(lambda: pending(channel) == 0)
            tried = [attempt.server for attempt in script.attempts]
            assert (len(tried), len(set(tried))) == (attempts, 3)
            [version] = {server[:2] for server in tried}
            seen[version] += 1
        assert min(seen["v1"], seen["v2"]) > 1


async def test_a_destination_that_is_ejected_gives_its_calls_away_and_gets_them_back():
    """A call that fails there is tried again with the others; later ones do not fail first."""
    ejection = {"consecutiveFailures": 1, "baseEjectionTime": "0.2s", "panicThreshold": 0}
    config = replace(
        routed(to(V2 | {"weight": 2**31}, V1), outlierDetection=ejection),
        method_config=retrying().method_config,
    )
    async with (
        serving("v1a", "v1b", "v2a") as servers,
        opened(*servers, config=config) as (channel, _),
    ):
        servers[2].sick = grpc.StatusCode.UNAVAILABLE
        for _ in range(20):
            [server] = await answers(channel, 1)
            assert server in {"v1a", "v1b"}
        assert len(servers[2].seen) < 10  # tried now and then
        servers[2].sick = None
        while channel.counts().ejected:
            await answers(channel, 1)
        assert await answers(channel, 10) == {"v2a": 10}


# ---- nobody there


async def test_the_share_of_a_canary_that_is_gone_goes_to_the_others():
    config = routed(to(V1 | {"weight": 1}, V2 | {"weight": 1}))
    async with (
        serving("v1a", "v2a") as servers,
        opened(*servers, config=config) as (
            channel,
            resolver,
        ),
    ):
        assert set(await answers(channel, 60)) == {"v1a", "v2a"}
        await servers[1].stop()
        await until(lambda: channel.counts().failing == 1)
        assert await answers(channel, 60) == {"v1a": 60}
        resolver.say(*labelled(servers[0]))
        await until(lambda: len(channel.endpoints() or ()) == 1)
        assert await answers(channel, 60) == {"v1a": 60}


async def test_calls_wait_for_their_share_while_it_is_being_connected():
    """The first to be connected does not get the calls of all: one call each would be enough."""
    config = routed(to(V1, match={"headers": [{"name": "a", "present": True}]}), to(V2))
    async with serving("v1a", "v2a") as servers, opened(config=config) as (channel, resolver):
        calls = [
            begin(channel, "unary_unary", b"x", metadata=metadata)
            for metadata in ((("a", ""),), None) * 10
        ]
        assert channel.status().waiting == 20
        resolver.say(*labelled(*servers))
        found = [(await result(call))[0] for call in calls]
        assert found == [b"x@v1a", b"x@v2a"] * 10


@pytest.mark.parametrize(
    ("fallback", "got"),
    [("NO_FALLBACK", None), ("OTHER_DESTINATIONS", None), ("ANY_ENDPOINT", "v1a")],
)
async def test_a_route_to_nobody(fallback, got):
    config = routed(TO_TESTERS | {"fallback": fallback})
    async with serving("v1a") as servers, opened(*servers, config=config) as (channel, _):
        assert await answers(channel, 5) == {"v1a": 5}
        if got is not None:
            assert await answers(channel, 5, metadata=TESTER) == {got: 5}
            return
        error = await error_of(begin(channel, "unary_unary", b"x", metadata=TESTER))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert "no endpoint of 'echo' with version v2 is registered" in error.details()
        assert "1 others). Next: start a server with that version" in error.details()


async def test_who_waits_for_ready_waits_for_its_destination():
    config = routed(TO_TESTERS)
    async with (
        serving("v1a", "v2a") as (one, two),
        opened(one, config=config) as (
            channel,
            resolver,
        ),
    ):
        waiting = begin(channel, "unary_unary", b"x", metadata=TESTER, wait_for_ready=True)
        late = begin(
            channel, "unary_unary", b"x", metadata=TESTER, wait_for_ready=True, timeout=0.05
        )
        error = await error_of(late)
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert "with version v2 is registered" in error.details()
        assert not waiting.done()
        resolver.say(*labelled(one, two))
        assert await result(waiting) == [b"x@v2a"]


async def test_a_destination_all_of_which_fails_is_told_from_the_others():
    config = routed(TO_TESTERS | {"fallback": "NO_FALLBACK"})
    async with serving("v1a", "v2a") as servers, opened(*servers, config=config) as (channel, _):
        await servers[1].stop()
        await until(lambda: channel.counts().failing == 1)
        error = await error_of(begin(channel, "unary_unary", b"x", metadata=TESTER))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert "127.0.0.1" in error.details()  # core's own words on that connection
        assert await answers(channel, 5) == {"v1a": 5}


async def test_what_others_wait_for_is_nothing_to_wait_for():
    """A call of one destination does not wait while another one is being connected."""
    config = routed(TO_TESTERS)
    options = ChannelOptions(service_config=config)
    with socket.create_server(("127.0.0.1", 0)) as mute:  # connects, and says nothing
        silent = Endpoint(service="echo", id="v1a", address=f"127.0.0.1:{mute.getsockname()[1]}")
        async with open_channel(options=options) as (channel, resolver):
            resolver.say(*labelled(silent))
            await until(lambda: channel.endpoints() is not None)
            error = await error_of(begin(channel, "unary_unary", b"x", metadata=TESTER))
            assert "with version v2 is registered" in error.details()
            assert channel.counts().connecting == 1


async def test_a_call_that_finds_its_server_gone_moves_within_its_destination():
    config = routed(to(V2))
    async with (
        serving("v1a", "v2a", "v2b") as servers,
        opened(*servers, config=config) as (
            channel,
            _,
        ),
    ):
        await servers[1].stop()
        await until(lambda: channel.counts().failing == 1)
        blind(channel)
        assert await answers(channel, 30) == {"v2b": 30}
        assert channel.status().endpoints[1].failed > 0


# ---- shares


class Weighed(Call):
    """A call as a router sees it."""

    point: int | None = None


@pytest.mark.parametrize("policy", ["adaptive", "round_robin", "p2c", "ring_hash", "least_request"])
@pytest.mark.parametrize("percent", [1, 10, 50])
def test_a_share_is_what_it_says_whatever_the_policy(policy, percent):
    """Of 20,000 calls, within four standard deviations; whatever the number of endpoints."""
    routes = [to(V1 | {"weight": 100 - percent}, V2 | {"weight": percent})]
    config = ServiceConfig.parse({"routes": routes, "loadBalancingConfig": [{policy: {}}]})
    configuration = Configuration(ChannelOptions(service_config=config))
    router = Router("s", configuration, "", FakeNode, random.Random(7), lambda: 0.0)
    endpoints = [
        Endpoint(service="s", id=f"{version}-{i}", address=f"{version}{i}:1", version=version)
        for version, size in (("v1", 3), ("v2", 5))
        for i in range(size)
    ]
    router.balancer.reconcile(router.selection.of(EndpointSet.of("s", endpoints)))
    for node in router.balancer.nodes:
        router.balancer.set_readiness(node, Readiness.READY)
    calls = 20_000
    found = Counter(router.pick(Weighed()).endpoint.version for _ in range(calls))
    share = percent / 100
    assert abs(found["v2"] - calls * share) < 4 * (calls * share * (1 - share)) ** 0.5


def test_groups_that_stay_keep_their_turn_and_those_that_go_are_forgotten():
    options = ChannelOptions(default_service_config=routed(to(V1)))
    configuration = Configuration(options)
    router = Router("s", configuration, "", FakeNode, random.Random(7), lambda: 0.0)
    first = next(selector for selector in router.selection.selectors if selector.version == "v1")
    kept = router.balancer.group(first)._picker
    configuration.adopt(routed(to(V1, V2)))
    router.configure()
    assert router.balancer.group(first)._picker is kept
    configuration.adopt(ServiceConfig.parse({"loadBalancingConfig": [{"p2c": {}}]}))
    router.configure()
    assert router.balancer.group(first)._picker is not kept
    configuration.adopt(routed())
    router.configure()
    assert len(router.selection.selectors) == 1
    with pytest.raises(KeyError):  # else it would cost something for each change of an endpoint
        router.balancer.group(first)
    assert router.pick == router.balancer.pick  # calls pay nothing for routes that are not there
