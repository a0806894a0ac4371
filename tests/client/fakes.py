"""A resolver that a test writes, servers that answer who they are, and what tests wait for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Any, Self

import anyio
import grpc
import grpc.aio
from grpc_health.v1 import health_pb2_grpc

from meshkit.client import Channel, ChannelOptions
from meshkit.discovery import Resolution
from meshkit.endpoint import Endpoint, EndpointSet
from meshkit.events import Event, TaskCrashed
from meshkit.latest import Latest
from meshkit.service_config import ServiceConfig
from meshkit.tasks import Supervisor

PATH = "/test.Echo/"
SHAPES = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


def method(channel: grpc.aio.Channel, shape: str, **how: Any) -> Any:
    """The method of the echo servers that has this shape."""
    name = "".join(word.title() for word in shape.split("_"))
    return getattr(channel, shape)(PATH + name, **how)


def begin(channel: grpc.aio.Channel, shape: str, *requests: bytes, **how: Any) -> Any:
    """A call of this shape."""
    start = method(channel, shape)
    return start(requests[0] if shape.startswith("unary") else iter(requests), **how)


async def result(call: Any) -> list[bytes]:
    """All that a call answers."""
    if isinstance(call, grpc.aio.UnaryUnaryCall | grpc.aio.StreamUnaryCall):
        return [await call]
    return [message async for message in call]


async def error_of(call: Any) -> grpc.aio.AioRpcError:
    """The error that a call ends with."""
    try:
        answer = await result(call)
    except grpc.aio.AioRpcError as error:
        return error
    raise AssertionError(f"no error but {answer}")


async def until(condition: Callable[[], object], timeout: float = 10.0) -> None:
    """Return when `condition` holds."""
    with anyio.fail_after(timeout):
        while not condition():
            await asyncio.sleep(0.002)


def pending(channel: Channel) -> int:
    """Calls under way or waiting."""
    status = channel.status()
    return sum(endpoint.pending for endpoint in status.endpoints) + status.waiting


@asynccontextmanager
async def open_channel(
    *servers: EchoServer | Endpoint,
    options: ChannelOptions | None = None,
    hook: Callable[[Event], None] | None = None,
) -> AsyncIterator[tuple[Channel, FakeResolver]]:
    """A warm channel to `servers`; to nothing known yet without them. Nothing may crash in it."""
    events: list[Event] = []

    def emit(event: Event) -> None:
        events.append(event)
        if hook is not None:
            hook(event)

    supervisor = Supervisor(emit)
    await supervisor.open()
    resolver = FakeResolver()
    channel = Channel("echo", resolver, supervisor, options or ChannelOptions(), emit)
    try:
        if servers:
            resolver.say(*servers)
            await channel.warm_up(1.0)
        yield channel, resolver
    finally:
        await channel.close()
        await supervisor.aclose()
    assert resolver.holders == 0
    assert not [event for event in events if isinstance(event, TaskCrashed)]


@asynccontextmanager
async def serving(*names: str) -> AsyncIterator[list[EchoServer]]:
    """Running echo servers."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(EchoServer(name)) for name in names]


class FakeWatch:
    registry = "fake://"

    def __init__(self, service: str) -> None:
        self.service = service
        self.latest: Latest[Resolution] = Latest(Resolution())

    def age(self) -> float | None:
        return None if self.latest.value.endpoints is None else 3.21


class FakeResolver:
    """Says what the test lets it say."""

    def __init__(self, service: str = "echo") -> None:
        self.service = service
        self.fake = FakeWatch(service)
        self.holders = 0
        self._revision = 0

    def say(self, *servers: EchoServer | Endpoint, trouble: str | None = None) -> None:
        self._revision += 1
        found = [s if isinstance(s, Endpoint) else s.endpoint for s in servers]
        endpoints = EndpointSet.of(self.service, found, revision=self._revision)
        self.fake.latest.set(Resolution(endpoints, trouble, config=self.fake.latest.value.config))

    def publish(self, config: ServiceConfig | None) -> None:
        self.fake.latest.set(replace(self.fake.latest.value, config=config))

    def fail(self, trouble: str) -> None:
        self.fake.latest.set(replace(self.fake.latest.value, trouble=trouble))

    @contextmanager
    def watch(self, service: str) -> Iterator[FakeWatch]:
        assert service == self.service
        self.holders += 1
        try:
            yield self.fake
        finally:
            self.holders -= 1


class EchoServer:
    """Four methods of bytes: each answers with what came and the server's name.

    A request b"sleep:0.5" takes that long; b"abort:NAME:text" is aborted; counts what it sees.
    """

    def __init__(self, name: str, *, port: int = 0) -> None:
        self.name = name
        self.health: Any = None  # a health servicer, if the server is to have one
        self.credentials: grpc.ServerCredentials | None = None
        self.port = port
        self.sick: grpc.StatusCode | None = None  # what every call ends with, if any
        self.seen: list[bytes] = []
        self.active = 0
        self.cancelled = 0
        self.metadata: list[dict[str, str]] = []

    async def start(self) -> Self:
        self.server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        methods = {
            "UnaryUnary": grpc.unary_unary_rpc_method_handler(self._unary_unary),
            "UnaryStream": grpc.unary_stream_rpc_method_handler(self._unary_stream),
            "StreamUnary": grpc.stream_unary_rpc_method_handler(self._stream_unary),
            "StreamStream": grpc.stream_stream_rpc_method_handler(self._stream_stream),
        }
        handler = grpc.method_handlers_generic_handler("test.Echo", methods)
        self.server.add_generic_rpc_handlers((handler,))
        if self.health is not None:
            health_pb2_grpc.add_HealthServicer_to_server(self.health, self.server)
        address = f"127.0.0.1:{self.port}"
        if self.credentials is None:
            self.port = self.server.add_insecure_port(address)
        else:
            self.port = self.server.add_secure_port(address, self.credentials)
        await self.server.start()
        return self

    async def stop(self, grace: float | None = None) -> None:
        await self.server.stop(grace)

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(service="echo", id=self.name, address=f"127.0.0.1:{self.port}")

    async def _one(self, request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        self.seen.append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        kind, *words = request.decode().split(":")
        self.active += 1
        try:
            if self.sick is not None:
                await context.abort(self.sick, "sick")
            if kind == "metadata":
                await context.send_initial_metadata((("begin", "b"),))
                context.set_trailing_metadata((("end", "e"),))
            elif kind == "sleep":
                await asyncio.sleep(float(words[0]))
            elif kind == "abort":
                await context.abort(grpc.StatusCode[words[0]], ":".join(words[1:]))
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.active -= 1
        return f"{request.decode()}@{self.name}".encode()

    async def _unary_unary(self, request, context):
        return await self._one(request, context)

    async def _unary_stream(self, request, context):
        for _ in range(3):
            yield await self._one(request, context)

    async def _stream_unary(self, requests, context):
        return b"+".join([await self._one(r, context) async for r in requests])

    async def _stream_stream(self, requests, context):
        async for request in requests:
            yield await self._one(request, context)


class Proxy:
    """A wire to a server that counts what goes there, and can be frozen: then nothing arrives."""

    def __init__(self, server: EchoServer) -> None:
        self._server = server
        self._flows = asyncio.Event()
        self._flows.set()
        self._pumps: set[asyncio.Task[None]] = set()
        self.sent = 0

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listener.close()
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(service="echo", id="proxy", address=f"127.0.0.1:{self.port}")

    def freeze(self) -> None:
        self._flows.clear()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection("127.0.0.1", self._server.port)
        for source, sink, counts in ((reader, there[1], 1), (there[0], writer, 0)):
            self._pumps.add(asyncio.create_task(self._pump(source, sink, counts)))

    async def _pump(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, counts: int
    ) -> None:
        try:
            while data := await source.read(65536):
                await self._flows.wait()
                self.sent += counts * len(data)
                sink.write(data)
        finally:
            sink.close()
