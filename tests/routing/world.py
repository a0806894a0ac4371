"""The servers of the table, in a registry."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc
import grpc.aio

from examples.hello.helloworld_pb2 import HelloReply
from meshkit import Mesh
from tests.routing.table import SERVERS

__all__ = ["announced"]


@asynccontextmanager
async def announced(mesh: Mesh, *services: str) -> AsyncIterator[None]:
    """All servers of the table run, each as a server of all these services."""
    async with AsyncExitStack() as stack:
        for server in SERVERS:
            port = await stack.enter_async_context(_serving(server.name))
            for service in services:
                await stack.enter_async_context(
                    mesh.register(
                        service,
                        f"127.0.0.1:{port}",
                        version=server.version,
                        metadata=server.metadata,
                        weight=server.weight,
                    )
                )
        yield


@asynccontextmanager
async def _serving(name: str) -> AsyncIterator[int]:
    """A server that answers any call of any method with its name; its port."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((_Anything(name),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)


class _Anything(grpc.GenericRpcHandler):
    """Each method of each service takes bytes and answers `HelloReply`."""

    def __init__(self, name: str) -> None:
        self._answer = HelloReply(message=name).SerializeToString()

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        if details.method.startswith("/grpc.health."):  # it has none, so it counts as healthy
            return None
        return grpc.unary_unary_rpc_method_handler(self._say)

    async def _say(self, request: bytes, context: Any) -> bytes:
        return self._answer
