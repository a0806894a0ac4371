"""A resolver that a test writes, and small servers that answer who they are."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import grpc.aio

from meshkit.discovery import Resolution
from meshkit.endpoint import Endpoint, EndpointSet
from meshkit.latest import Latest

PATH = "/test.Echo/"


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
        self.fake.latest.set(Resolution(endpoints, trouble))

    def fail(self, trouble: str) -> None:
        self.fake.latest.set(Resolution(self.fake.latest.value.endpoints, trouble))

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
        self.port = port
        self.seen: list[bytes] = []
        self.active = 0
        self.cancelled = 0
        self.metadata: list[dict[str, str]] = []

    async def start(self) -> EchoServer:
        self.server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        methods = {
            "UnaryUnary": grpc.unary_unary_rpc_method_handler(self._unary_unary),
            "UnaryStream": grpc.unary_stream_rpc_method_handler(self._unary_stream),
            "StreamUnary": grpc.stream_unary_rpc_method_handler(self._stream_unary),
            "StreamStream": grpc.stream_stream_rpc_method_handler(self._stream_stream),
        }
        handler = grpc.method_handlers_generic_handler("test.Echo", methods)
        self.server.add_generic_rpc_handlers((handler,))
        self.port = self.server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self.server.start()
        return self

    async def stop(self, grace: float | None = None) -> None:
        await self.server.stop(grace)

    async def __aenter__(self) -> EchoServer:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(service="echo", id=self.name, address=f"127.0.0.1:{self.port}")

    async def _one(self, request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        self.seen.append(request)
        self.metadata.append({k: v for k, v in context.invocation_metadata()})
        kind, *words = request.decode().split(":")
        self.active += 1
        try:
            if kind == "sleep":
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
