"""A server that dies, and another one that is started on its port while its lease lives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest
import trustme
from grpc_health.v1 import health

from meshkit.balancer import Readiness
from meshkit.client import ChannelOptions, ConnectionOptions
from meshkit.client import subchannel as subchannel_module
from meshkit.endpoint import Endpoint
from meshkit.events import EndpointFailing, EndpointForeign, EndpointReady, Event
from meshkit.server.health import Health
from tests.client.fakes import EchoServer, begin, error_of, open_channel, result, until

pytestmark = pytest.mark.anyio


class MeshServer(EchoServer):
    """An echo server that says who it is, and counts who asked."""

    def __init__(self, name: str, *, service: str = "echo", port: int = 0) -> None:
        super().__init__(name, port=port)
        self.service = service
        self.asked: list[str] = []
        self.health = Health(self._endpoints)
        self.health.serve(())

    def _endpoints(self) -> list[Endpoint]:
        self.asked.append(self.name)
        return [Endpoint(service=self.service, id=self.name, address=f"127.0.0.1:{self.port}")]


@asynccontextmanager
async def following(
    *servers: EchoServer | Endpoint, **connection: Any
) -> AsyncIterator[tuple[Any, Any, list[Event]]]:
    """A channel to `servers`, the resolver, and what happens to its endpoints."""
    events: list[Event] = []

    def note(event: Event) -> None:
        if isinstance(event, EndpointReady | EndpointFailing | EndpointForeign):
            events.append(event)

    options = ChannelOptions(connection=ConnectionOptions(**connection))
    async with open_channel(*servers, options=options, hook=note) as (channel, resolver):
        yield channel, resolver, events


def foreign(events: list[Event]) -> list[EndpointForeign]:
    return [event for event in events if isinstance(event, EndpointForeign)]


async def ask(channel: grpc.aio.Channel) -> bytes:
    [answer] = await result(begin(channel, "unary_unary", b"x", timeout=5, wait_for_ready=True))
    return answer


@pytest.mark.parametrize("service", ["echo", "other"])
async def test_a_stranger_on_the_port_gets_no_call_until_it_goes(service):
    async with MeshServer("a") as a, following(a) as (channel, _, events):
        assert await ask(channel) == b"x@a"
        await a.stop()
        async with MeshServer("b", service=service, port=a.port) as b:
            await until(lambda: foreign(events))
            cause = f"the endpoint at 127.0.0.1:{a.port} is now {service}/b, not echo/a"
            assert foreign(events) == [EndpointForeign(a.endpoint, cause)]
            assert foreign(events)[0].details()["stranger"] == cause
            error = await error_of(begin(channel, "unary_unary", b"x", timeout=5))
            assert error.code() is grpc.StatusCode.UNAVAILABLE
            assert f"Last error: {cause}." in error.details()
            assert channel.status().endpoints[0].readiness is Readiness.FAILING
            await b.stop()
            asked = len(b.asked)
            await b.start()
            await until(lambda: len(b.asked) > asked)  # connected to it once more
            assert b.seen == []
        await a.start()
        assert await ask(channel) == b"x@a"
        assert len(foreign(events)) == 1  # said once, however often it was met


async def test_a_stranger_from_the_first_connection_on():
    async with MeshServer("b", service="other") as b:
        claimed = Endpoint(service="echo", id="a", address=f"127.0.0.1:{b.port}")
        async with following(claimed) as (channel, _, events):
            assert [type(event) for event in events] == [EndpointForeign]
            assert (
                await error_of(begin(channel, "unary_unary", b"x"))
            ).code().name == "UNAVAILABLE"
            assert b.seen == []


async def test_an_endpoint_of_an_address_only_is_known_by_its_service():
    async with MeshServer("b") as right, MeshServer("c", service="other") as wrong:
        addresses = [f"127.0.0.1:{server.port}" for server in (right, wrong)]
        known = [Endpoint(service="echo", id=a, address=a) for a in addresses]
        async with following(*known) as (channel, _, events):
            assert [event.endpoint.address for event in foreign(events)] == [addresses[1]]
            assert {await ask(channel) for _ in range(10)} == {b"x@b"}


async def test_a_new_server_on_the_same_port_is_a_new_node():
    async with (
        MeshServer("z") as z,
        MeshServer("a") as a,
        following(z, a) as (channel, resolver, events),
    ):
        calls = asyncio.create_task(keep_asking(channel))
        for old, name in ((a, "b"), (z, "c")):
            resolver.say(*(s for s in (z, a) if s is not old))
            await asyncio.sleep(0.1)  # as a drain does: until clients have noticed
            await old.stop()
            old.name = name  # the same port, another id
            await old.start()
            resolver.say(z, a)
            await until(lambda name=name: EndpointReady(old.endpoint) in events)  # noqa: B023
        assert not calls.done()  # none has failed
        calls.cancel()
        await asyncio.wait([calls])
        assert not [event for event in events if not isinstance(event, EndpointReady)]


async def keep_asking(channel: grpc.aio.Channel) -> None:
    while True:
        await result(begin(channel, "unary_unary", b"x", timeout=5))


async def test_interceptors_do_not_see_the_question():
    seen = []

    class Note(grpc.aio.UnaryUnaryClientInterceptor):
        async def intercept_unary_unary(self, continuation, details, request):
            seen.append(details.method)
            return await continuation(details, request)

    async with MeshServer("a") as a, following(a, interceptors=[Note()]) as (channel, _, events):
        assert await ask(channel) == b"x@a"
        assert len(a.asked) == 1
        a.name = "b"
        await a.stop()
        await a.start()
        await until(lambda: foreign(events))
        assert seen == [b"/test.Echo/UnaryUnary"]


async def test_asked_once_for_each_connection():
    async with MeshServer("a") as a, following(a) as (channel, _, _):
        for _ in range(20):
            await ask(channel)
        assert len(a.asked) == 1
        await a.stop()
        await a.start()
        await ask(channel)
        assert len(a.asked) == 2


async def test_with_tls():
    authority = trustme.CA()
    names = authority.issue_cert("echo")
    pair = (names.private_key_pem.bytes(), names.cert_chain_pems[0].bytes())
    server = MeshServer("b", service="other")
    server.credentials = grpc.ssl_server_credentials([pair])
    trusted = grpc.ssl_channel_credentials(authority.cert_pem.bytes())
    async with server, following(server, credentials=trusted) as (_, _, events):
        assert "is now other/b" in foreign(events)[0].stranger
    server.service = "echo"
    async with server, following(server, credentials=trusted) as (channel, _, events):
        assert await ask(channel) == b"x@b"


class PlainServer(EchoServer):
    """A server of another library: it has a health service, and does not say who it is."""

    def __init__(self, *, hangs: bool = False) -> None:
        super().__init__("a")
        self.asked = asyncio.Event()
        self.hangs = hangs
        self.health = health.aio.HealthServicer()
        self.health.Check = self._check

    async def _check(self, request: Any, context: Any) -> Any:
        self.asked.set()
        if self.hangs:
            await asyncio.sleep(60)
        await context.abort(grpc.StatusCode.UNAUTHENTICATED, "not for you")


@pytest.mark.parametrize("hangs", [False, True])
async def test_a_server_that_does_not_say_is_the_right_one(hangs, monkeypatch):
    monkeypatch.setattr(subchannel_module, "_PATIENCE", 0.2)
    async with PlainServer(hangs=hangs) as plain, following(plain) as (channel, _, events):
        assert await ask(channel) == b"x@a"
        assert plain.asked.is_set()
        assert not foreign(events)


async def test_a_connection_that_goes_while_its_server_is_asked():
    async with PlainServer(hangs=True) as plain, following() as (channel, resolver, events):
        resolver.say(plain)
        await plain.asked.wait()
        await plain.stop()
        await until(lambda: channel.status().endpoints[0].readiness is Readiness.FAILING)
        assert events == []  # it never was ready


async def test_closed_while_a_server_is_asked():
    async with PlainServer(hangs=True) as plain, following() as (channel, resolver, _):
        resolver.say(plain)
        await plain.asked.wait()
        await channel.close()
        assert not [t for t in asyncio.all_tasks() if t.get_name().startswith("meshkit connection")]


async def test_a_call_that_would_rather_fail_is_not_sent_to_who_has_not_been_asked():
    asked, answer = asyncio.Event(), asyncio.Event()

    class Slow(MeshServer):
        async def start(self) -> Any:
            quick = self.health.Check

            async def check(request: Any, context: Any) -> Any:
                asked.set()
                await answer.wait()
                return await quick(request, context)

            self.health.Check = check
            return await super().start()

    a = await EchoServer("a").start()
    await a.stop()
    async with following(a) as (channel, _, events), Slow("b", port=a.port) as b:
        await asked.wait()
        error = await error_of(begin(channel, "unary_unary", b"x"))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        answer.set()
        await until(lambda: foreign(events))
        assert b.seen == []
