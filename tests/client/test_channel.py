"""What our channel has beyond grpc.aio's: options for its connections, its state, its words."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import anyio
import grpc
import grpc.aio
import pytest
import trustme

from meshkit.client import Channel, ChannelOptions, ConnectionOptions
from meshkit.endpoint import Endpoint
from meshkit.errors import ConfigError
from tests.client.fakes import (
    SHAPES,
    EchoServer,
    Proxy,
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
States = grpc.ChannelConnectivity


def connected(**how: Any) -> ChannelOptions:
    return ChannelOptions(connection=ConnectionOptions(**how))


class Stub:
    """As grpcio-tools generates it."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.Echo = channel.unary_unary(
            "/test.Echo/UnaryUnary",
            request_serializer=str.encode,
            response_deserializer=bytes.decode,
            _registered_method=True,
        )


async def test_a_generated_stub_takes_it():
    async with serving("a") as servers, open_channel(*servers) as (channel, _):
        assert isinstance(channel, grpc.aio.Channel)
        assert await Stub(channel).Echo("x", timeout=5) == "x@a"


# ---- connections


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_deadline_needs_no_server(shape):
    async with (
        serving("a") as servers,
        Proxy(servers[0]) as proxy,
        open_channel(proxy.endpoint) as (channel, _),
    ):
        proxy.freeze()
        with anyio.fail_after(5):
            error = await error_of(begin(channel, shape, b"x", timeout=0.05))
        assert error.code() is Status.DEADLINE_EXCEEDED
        assert "Deadline Exceeded" in error.details()
        assert pending(channel) == 0


@pytest.mark.parametrize("sizes", [(), (("grpc.max_receive_message_length", -1),)])
@pytest.mark.parametrize("per_call", [True, False])
async def test_compression(per_call, sizes):
    gzip = grpc.Compression.Gzip
    options = connected(compression=None if per_call else gzip, options=sizes)
    async with (
        serving("a") as servers,
        Proxy(servers[0]) as proxy,
        open_channel(proxy.endpoint, options=options) as (channel, _),
    ):
        start = method(channel, "unary_unary")
        await start(b"x" * 100_000, compression=gzip if per_call else None)
        assert proxy.sent < 10_000


async def test_options_of_the_user_reach_the_connection():
    options = connected(options=(("grpc.max_receive_message_length", 10),))
    async with serving("a") as servers, open_channel(*servers, options=options) as (channel, _):
        error = await error_of(begin(channel, "unary_unary", b"x" * 20))
        assert error.code() is Status.RESOURCE_EXHAUSTED


MOST = 4 * 1024 * 1024  # bytes that a server of gRPC takes by default; it answers with two more


async def test_a_response_of_more_than_4_mib_is_not_taken_unless_any_size_is_wanted():
    boundless = connected(options=(("grpc.max_receive_message_length", -1),))
    async with serving("a") as servers:
        async with open_channel(*servers) as (channel, _):
            error = await error_of(begin(channel, "unary_unary", b"x" * MOST))
            assert error.code() is Status.RESOURCE_EXHAUSTED
            assert f"larger than max ({MOST + 2} vs. {MOST})" in error.details()
        async with open_channel(*servers, options=boundless) as (channel, _):
            [answer] = await result(begin(channel, "unary_unary", b"x" * MOST))
            assert len(answer) == MOST + 2


@pytest.mark.parametrize("sent", [-1, 10])
async def test_a_limit_on_what_is_sent_holds_where_any_size_is_received(sent):
    sizes = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", sent))
    options = connected(options=sizes)
    async with serving("a") as servers, open_channel(*servers, options=options) as (channel, _):
        assert await result(begin(channel, "unary_unary", b"x" * 10)) == [b"x" * 10 + b"@a"]
        if sent == 10:
            error = await error_of(begin(channel, "unary_unary", b"x" * 11))
            assert error.code() is Status.RESOURCE_EXHAUSTED


async def test_tls_names_the_service_and_carries_call_credentials():
    authority = trustme.CA()
    certificate = authority.issue_cert("echo")  # the service's name; nothing of this machine
    server = EchoServer("a")
    server.credentials = grpc.ssl_server_credentials(
        [(certificate.private_key_pem.bytes(), certificate.cert_chain_pems[0].bytes())]
    )
    trusted = grpc.ssl_channel_credentials(authority.cert_pem.bytes())
    async with server, open_channel(server, options=connected(credentials=trusted)) as (channel, _):
        start = method(channel, "unary_unary")
        token = grpc.access_token_call_credentials("t0ken")
        assert await start(b"x", credentials=token, timeout=5) == b"x@a"
        assert server.metadata[0]["authorization"] == "Bearer t0ken"


async def test_a_certificate_of_another_service_is_refused_unless_the_user_says_whose_it_is():
    authority = trustme.CA()
    certificate = authority.issue_cert("other")
    server = EchoServer("a")
    server.credentials = grpc.ssl_server_credentials(
        [(certificate.private_key_pem.bytes(), certificate.cert_chain_pems[0].bytes())]
    )
    trusted = grpc.ssl_channel_credentials(authority.cert_pem.bytes())
    async with server:
        options = connected(credentials=trusted)
        async with open_channel(server, options=options) as (channel, _):
            error = await error_of(begin(channel, "unary_unary", b"x", timeout=5))
            assert error.code() is Status.UNAVAILABLE
            assert "not match" in error.details() or "verif" in error.details().lower()
        stronger = (("grpc.default_authority", "other"),)
        options = connected(credentials=trusted, options=stronger)
        async with open_channel(server, options=options) as (channel, _):
            assert await result(begin(channel, "unary_unary", b"x", timeout=5)) == [b"x@a"]


async def test_keepalive_of_the_endpoint_is_accepted():
    async with serving("a") as (server,):
        endpoint = Endpoint(service="echo", id="a", address=server.endpoint.address, keepalive=5.0)
        async with open_channel(endpoint) as (channel, _):
            assert await result(begin(channel, "unary_unary", b"x")) == [b"x@a"]


async def test_a_server_that_hangs_is_noticed_if_it_lets_itself_be_pinged():
    async with serving("a") as (server,), Proxy(server) as proxy:
        endpoint = replace(proxy.endpoint, keepalive=1.0)
        async with open_channel(endpoint) as (channel, _):
            assert await result(begin(channel, "unary_unary", b"x")) == [b"x@a"]
            proxy.freeze()
            await until(lambda: channel.counts().ready == 0)


@pytest.mark.parametrize(
    "wrong",
    [{"interceptors": [object()]}, {"credentials": grpc.access_token_call_credentials("t")}],
)
def test_options_are_checked_at_birth(wrong):
    with pytest.raises(ConfigError):
        ConnectionOptions(**wrong)


# ---- interceptors


class _Seen:
    def __init__(self) -> None:
        self.seen: list[str] = []

    def note(self, details: grpc.aio.ClientCallDetails) -> None:
        name = details.method
        self.seen.append(name.decode() if isinstance(name, bytes) else name)


class UnaryUnary(_Seen, grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(self, continuation, details, request):
        self.note(details)
        return await continuation(details, request)


class UnaryStream(_Seen, grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(self, continuation, details, request):
        self.note(details)
        return await continuation(details, request)


class StreamUnary(_Seen, grpc.aio.StreamUnaryClientInterceptor):
    async def intercept_stream_unary(self, continuation, details, requests):
        self.note(details)
        return await continuation(details, requests)


class StreamStream(_Seen, grpc.aio.StreamStreamClientInterceptor):
    async def intercept_stream_stream(self, continuation, details, requests):
        self.note(details)
        return await continuation(details, requests)


KINDS = dict(zip(SHAPES, (UnaryUnary, UnaryStream, StreamUnary, StreamStream), strict=True))


@pytest.mark.parametrize("shape", SHAPES)
async def test_interceptors(shape):
    interceptors = [kind() for kind in KINDS.values()]
    options = connected(interceptors=interceptors)
    async with serving("a") as servers, open_channel(*servers, options=options) as (channel, _):
        assert set(await result(begin(channel, shape, b"x"))) == {b"x@a"}
        mine = [i.seen for i in interceptors if isinstance(i, KINDS[shape])]
        assert sum(len(i.seen) for i in interceptors) == len(mine[0]) == 1
        error = await error_of(begin(channel, shape, b"abort:NOT_FOUND:x"))
        assert error.code() is Status.NOT_FOUND
        call = begin(channel, shape, b"sleep:30")
        await until(lambda: servers[0].active)
        call.cancel()
        await until(lambda: servers[0].cancelled)
        await until(lambda: pending(channel) == 0)


class Broken(grpc.aio.UnaryUnaryClientInterceptor, grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_unary(self, continuation, details, request):
        raise ValueError("broken")

    async def intercept_unary_stream(self, continuation, details, request):
        raise ValueError("broken")


async def test_an_interceptor_that_raises_leaves_nothing_pending():
    options = connected(interceptors=[Broken()])
    async with serving("a") as servers, open_channel(*servers, options=options) as (channel, _):
        call = begin(channel, "unary_unary", b"x")
        with pytest.raises(ValueError, match="broken"):
            await call
        await until(call.done)
        assert pending(channel) == 0


class Answering(grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(self, continuation, details, request):
        return b"from the cache"


async def test_an_interceptor_that_answers_itself():
    options = connected(interceptors=[Answering()])
    async with serving("a") as servers, open_channel(*servers, options=options) as (channel, _):
        assert await begin(channel, "unary_unary", b"x") == b"from the cache"
        await until(lambda: pending(channel) == 0)
        assert servers[0].seen == []


class Pausing(grpc.aio.UnaryUnaryClientInterceptor):
    def __init__(self) -> None:
        self.arrived = asyncio.Event()

    async def intercept_unary_unary(self, continuation, details, request):
        self.arrived.set()
        await asyncio.sleep(30)


async def test_the_endpoint_was_picked_before_an_interceptor_sees_the_call():
    pausing = Pausing()
    options = connected(interceptors=[pausing])
    async with serving("a") as servers, open_channel(*servers, options=options) as (channel, _):
        call = begin(channel, "unary_unary", b"x")
        await pausing.arrived.wait()
        assert pending(channel) == 1
        assert call.cancel()
        await until(lambda: pending(channel) == 0)
        assert call.cancelled()


# ---- metadata


@pytest.mark.parametrize(
    "pairs",
    [
        {"key": "value"},
        "xx",
        [("key",)],
        [("key", "value", "more")],
        [("", "value")],
        [("Upper", "value")],
        [("with space", "value")],
        [(":path", "value")],
        [("key", 1)],
        [("key", "tab\t")],
        [("key", "ü")],
        [("key", b"\x00")],
        [("key-bin", "text")],
    ],
)
async def test_illegal_metadata_is_refused_at_the_call(pairs):
    async with serving("a") as servers, open_channel(*servers) as (channel, _):
        with pytest.raises(ValueError, match="metadata"):
            method(channel, "unary_unary")(b"x", metadata=pairs)
        assert pending(channel) == 0


async def test_an_error_about_metadata_keeps_the_value_secret():
    async with open_channel() as (channel, _):
        with pytest.raises(ValueError) as caught:
            method(channel, "unary_unary")(b"x", metadata=[("token", "s3cret\n")])
        assert "s3cret" not in str(caught.value)


# ---- callbacks


@pytest.fixture
async def complaints() -> AsyncIterator[list[dict[str, Any]]]:
    """What the loop's exception handler is told."""
    loop = asyncio.get_running_loop()
    before = loop.get_exception_handler()
    told: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: told.append(context))
    yield told
    loop.set_exception_handler(before)


async def test_a_callback_that_raises_stops_nobody(complaints):
    async with serving("a") as servers, open_channel() as (channel, resolver):
        calls = [begin(channel, "unary_unary", b"x") for _ in range(2)]
        told: list[Any] = []
        for call in calls:
            call.add_done_callback(lambda _: 1 / 0)
            call.add_done_callback(told.append)
        resolver.say()
        for call in calls:
            assert (await error_of(call)).code() is Status.UNAVAILABLE
        resolver.say(*servers)
        await channel.channel_ready()
        call = begin(channel, "unary_unary", b"x")
        call.add_done_callback(lambda _: 1 / 0)
        assert await call == b"x@a"
        assert told == calls
    assert [type(c["exception"]) for c in complaints] == [ZeroDivisionError] * 3
    assert "done callback" in complaints[0]["message"]


async def test_a_callback_may_end_a_call_that_waits_behind():
    async with serving("a") as servers, open_channel() as (channel, resolver):
        refused = grpc.access_token_call_credentials("token")  # without TLS
        first = begin(channel, "unary_unary", b"x", credentials=refused)
        second = begin(channel, "unary_unary", b"y")
        first.add_done_callback(lambda _: second.cancel())
        resolver.say(*servers)
        assert (await error_of(first)).code() is Status.INTERNAL
        assert await second.code() is Status.CANCELLED
        assert servers[0].seen == []
        assert pending(channel) == 0


# ---- what it tells of itself


async def test_repr_and_status():
    async with serving("a", "b") as servers, open_channel(*servers) as (channel, resolver):
        call = begin(channel, "unary_unary", b"sleep:30")
        assert repr(channel) == "<Channel 'echo': 2 ready | 1 in flight>"
        status = channel.status()
        assert (status.service, status.registry, status.age) == ("echo", "fake://", 3.21)
        assert (status.state, status.trouble, status.waiting) == (States.READY, None, 0)
        assert [endpoint.endpoint.id for endpoint in status.endpoints] == ["a", "b"]
        assert sum(endpoint.started for endpoint in status.endpoints) == 1
        resolver.fail("registry is down")
        await until(lambda: channel.status().trouble == "registry is down")
        assert len(channel.endpoints() or ()) == 2
        call.cancel()
        await channel.close()
        assert repr(channel) == "<Channel 'echo' closed>"


async def test_before_anything_is_known():
    async with open_channel() as (channel, _):
        assert channel.get_state() is States.CONNECTING
        assert channel.endpoints() is None
        assert channel.status().registry in ("", "fake://")


async def test_an_endpoint_that_takes_no_calls_makes_no_channel_ready():
    async with serving("a") as (server,), open_channel() as (channel, resolver):
        resolver.say(Endpoint(service="echo", id="a", address=server.endpoint.address, weight=0))
        await until(lambda: channel.counts().parked)
        assert channel.get_state() is States.TRANSIENT_FAILURE
        error = await error_of(begin(channel, "unary_unary", b"x"))
        assert "1 known: 1 parked" in error.details()


async def test_news_on_its_way_when_the_channel_is_closed_opens_nothing():
    async with serving("a", "b") as (a, b), open_channel(a) as (channel, resolver):
        resolver.say(a, b)
        await channel.close()
        await asyncio.sleep(0.05)
        assert len(channel.status().endpoints) == 1


async def test_a_forked_child_is_refused():
    def refuse():
        raise RuntimeError("forked")

    async with serving("a") as servers, open_channel(*servers) as (channel, _):
        pick = channel._dispatch.pick
        channel.disown(refuse)
        with pytest.raises(RuntimeError, match="forked"):
            begin(channel, "unary_unary", b"x")
        assert channel.get_state() is States.SHUTDOWN
        channel._dispatch.pick = pick


async def test_a_closing_that_is_cancelled_still_closes():
    async with serving("a") as (server,), open_channel(server) as (channel, _):
        call = begin(channel, "unary_unary", b"sleep:30")
        await until(lambda: server.active)
        with anyio.move_on_after(0.05) as scope:
            await channel.close(grace=30)
        assert scope.cancelled_caught
        assert await call.code() is Status.CANCELLED
        await until(lambda: server.cancelled)


async def test_warm_up_waits_no_longer_than_told():
    async with open_channel() as (channel, _):
        await channel.warm_up(0.01)
        assert isinstance(channel, Channel)


@pytest.mark.parametrize("shape", ["unary_stream", "stream_stream"])
@pytest.mark.parametrize("style", ["read", "iterate"])
async def test_a_stream_tells_by_its_first_response_how_slow_an_endpoint_is(shape, style):
    async with serving("a") as (server,), open_channel(server) as (channel, _):
        call = begin(channel, shape, b"sleep:0.1")
        answer = await call.read() if style == "read" else await anext(aiter(call))
        assert answer == b"sleep:0.1@a"
        [node] = channel._dispatch.balancer.nodes
        latency = node.latency
        assert 0.09 < latency < 10
        await asyncio.sleep(0.3)
        call.cancel()
        await until(lambda: pending(channel) == 0)
        assert node.latency == pytest.approx(latency)


async def test_a_stream_that_nobody_holds_is_no_failure():
    async with serving("a") as (server,), open_channel(server) as (channel, _):
        call = begin(channel, "stream_stream", b"sleep:30")
        await until(lambda: server.active)
        del call
        gc.collect()
        await until(lambda: pending(channel) == 0)
        assert channel.status().endpoints[0].failed == 0
