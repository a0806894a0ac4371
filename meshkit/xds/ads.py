"""The service that clients speak to: one stream per client, in either variant of the protocol.

A stream has a reader and a writer. The reader takes note of what the client says; the writer sends
what is due, waits until something may have changed, and looks again. A client that reads slowly
holds up only its own writer, and gets the newest when it is back: nothing is queued for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, Final, Protocol, final

import anyio
import grpc
from grpc import aio

from meshkit.events import Emit, XdsClientConnected, XdsClientLeft, XdsResourcesRefused
from meshkit.xds.catalogue import Catalogue
from meshkit.xds.client import Client, ClientView
from meshkit.xds.subscription import Subscriptions
from meshkit.xds.wire import Delta, StateOfTheWorld, Variant

__all__ = ["DiscoveryService", "Stream"]

_SERVICE: Final = "envoy.service.discovery.v3.AggregatedDiscoveryService"


class Context(Protocol):
    """What a stream needs of grpc.aio's `ServicerContext`."""

    async def read(self) -> Any:
        """The next message, or `grpc.aio.EOF`."""
        ...

    async def write(self, message: Any) -> None:
        """Send one; waits while the client does not read."""
        ...

    def peer(self) -> str:
        """Where the client calls from."""
        ...


@final
class Stream:
    """What one client asks, and what it is told.

    Attributes:
        client: who it is; None before it said so.
        subscriptions: what it asked for.
    """

    def __init__(
        self, variant: Variant, context: Context, catalogue: Catalogue, emit: Emit
    ) -> None:
        self.client: Client | None = None
        self.subscriptions: Final = Subscriptions(delta=variant.is_delta)
        self._variant = variant
        self._context = context
        self._catalogue = catalogue
        self._emit = emit
        self._view: ClientView | None = None
        self._news = asyncio.Event()

    async def run(self) -> None:
        """Serve until the client ends it."""
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._write)
                await self._read()
                group.cancel_scope.cancel()
        finally:
            if self._view is not None and self.client is not None:
                self._view.close()
                client = self.client
                self._emit(XdsClientLeft(client.node.id, client.name, client.peer))

    async def _read(self) -> None:
        while (message := await self._context.read()) is not aio.EOF:
            request = self._variant.read(message)
            if self._view is None:
                self._view = self._meet(request.node)
            change = self._variant.change(request)
            refusal = self.subscriptions.take(request.type_url, change)
            if refusal is not None and self.client is not None:
                node, kind = self.client.node.id, self.client.name
                names = tuple(sorted(refusal.versions))
                self._emit(XdsResourcesRefused(node, kind, request.type_url, names, refusal.reason))
            if self.subscriptions.is_asked:
                self._news.set()

    def _meet(self, node: Any) -> ClientView:
        """The first request, and no other, says who it is."""
        client = self.client = Client.of(node, self._context.peer())
        self._emit(XdsClientConnected(node.id, client.name, client.peer))
        if client.trouble:
            self._emit(XdsResourcesRefused(node.id, client.name, "node", (), client.trouble))
        return ClientView(client, self._catalogue, self._news.set, self._emit)

    async def _write(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            if self._view is None:
                continue
            if self.subscriptions.is_asked or self._view.is_for_all:
                self.subscriptions.is_asked = False
                self._view.follow(self.subscriptions)
            for answer in self.subscriptions.due(self._view):
                await self._context.write(self._variant.write(answer))


@final
class DiscoveryService:
    """Serves streams; knows those that are open.

    Args:
        catalogue: of all services.
        emit: takes the events.
    """

    def __init__(self, catalogue: Catalogue, emit: Emit) -> None:
        self._catalogue = catalogue
        self._emit = emit
        self._streams: dict[Stream, None] = {}

    def __iter__(self) -> Iterator[Stream]:
        """The open streams, the oldest first."""
        return iter(tuple(self._streams))

    def add_to(self, server: aio.Server) -> None:
        """Answer both variants on `server`; messages are bytes, which we put together ourselves."""
        variants: dict[str, Variant] = {
            "StreamAggregatedResources": StateOfTheWorld(),
            "DeltaAggregatedResources": Delta(),
        }
        handlers = {name: self._handler(variant) for name, variant in variants.items()}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, handlers),))

    def _handler(self, variant: Variant) -> Any:
        async def serve(_requests: Any, context: Any) -> None:
            stream = Stream(variant, context, self._catalogue, self._emit)
            self._streams[stream] = None
            try:
                await stream.run()
            except asyncio.CancelledError:  # by gRPC, which logs it as an error: the client left
                return
            finally:
                del self._streams[stream]

        return grpc.stream_stream_rpc_method_handler(serve)
