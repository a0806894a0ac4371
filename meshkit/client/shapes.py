"""The four shapes of a call: one or many requests, one or many responses."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Generator
from operator import methodcaller
from typing import TYPE_CHECKING, Any, Final, Self

import grpc.aio

from meshkit.client.call import Call
from meshkit.client.replay import Replay

if TYPE_CHECKING:
    from meshkit.client.dispatch import Dispatch
    from meshkit.client.subchannel import Method, Subchannel

__all__ = ["StreamStreamCall", "StreamUnaryCall", "UnaryStreamCall", "UnaryUnaryCall"]


class _UnaryResponse(Call):
    def __await__(self) -> Generator[Any, None, Any]:
        self._is_awaited = True
        while True:
            call = self.wire
            if call is None:
                call = yield from self.sent().__await__()
            try:
                return (yield from call.__await__())
            except grpc.aio.AioRpcError:
                self.judge()
                if call is self.wire:
                    raise
            except asyncio.CancelledError as error:
                yield from self.interrupted(error).__await__()
            except Exception:
                call.cancel()  # a request that cannot be serialized: grpc.aio would not end it
                raise


def _abandon(loop: asyncio.AbstractEventLoop, calls: Collection[Any]) -> None:
    # Runs wherever garbage is collected, maybe in a thread that has no business with the calls.
    if not loop.is_closed():
        loop.call_soon_threadsafe(_cancel, calls)


def _cancel(calls: Collection[Any]) -> None:
    for call in list(calls):
        call.cancel()


def _next_message(call: Any) -> Any:
    return anext(aiter(call))  # grpc.aio keeps one iterator for each call


_READ: Final = methodcaller("read")


class _StreamResponse(Call):
    _abandoned: weakref.finalize[..., Any] | None = None
    _messages: AsyncIterator[Any] | None = None  # those after the first one

    def send(self, node: Subchannel, timeout: float | None) -> None:
        """Put the call on a connection."""
        super().send(node, timeout)
        self.cancel_if_dropped([self.wire])

    def cancel_if_dropped(self, calls: Collection[Any]) -> None:
        """Cancel `calls`, which are on the wire, when nobody holds this one any more.

        Since grpcio 1.83 a dropped call goes on until its channel closes (grpc/grpc#43462), and
        would count as pending as long.
        """
        if self._abandoned is not None:
            self._abandoned.detach()
        loop = asyncio.get_running_loop()
        self._abandoned = weakref.finalize(self, _abandon, loop, calls)
        self._abandoned.atexit = False

    def ended(self, call: Any) -> None:
        """The call on the wire has ended, and can no longer be abandoned."""
        if self._abandoned is not None:
            self._abandoned.detach()
        super().ended(call)

    def on_end(self) -> Callable[[Any], None]:
        node, this, clock = self.node, weakref.ref(self), self._dispatch.now

        def ended(call: Any) -> None:
            if (still_held := this()) is not None:
                still_held.ended(call)
            elif node is not None:
                node.finish(None, clock())

        return ended

    def responded(self) -> None:
        """There is a first response: how long it took tells of the node, how long all takes not."""
        self._has_response = True
        if self.node is not None:
            now = self._dispatch.now()
            self.node.respond(now - self._sent_at, now)

    def __aiter__(self) -> Self:
        # Its own iterator: a generator that held the call would keep it, once abandoned, until the
        # next garbage collection.
        return self

    async def __anext__(self) -> Any:
        messages = self._messages
        if messages is None:
            if not self._has_response:
                response = await self.do(_next_message)
                self.responded()
                return response
            messages = self._messages = aiter(self.wire)
        try:  # it stays where it is now: the shorter way, since there may be many messages
            return await messages.__anext__()
        except asyncio.CancelledError as error:
            await self.interrupted(error)

    async def read(self) -> Any:
        """The next message, or `grpc.aio.EOF`.

        Raises:
            grpc.aio.AioRpcError: the call ended with an error.
        """
        if not self._has_response:
            response = await self.do(_READ)
            if response is not grpc.aio.EOF:
                self.responded()
            return response
        try:
            return await self.wire.read()
        except asyncio.CancelledError as error:
            await self.interrupted(error)


class _StreamRequest(Call):
    _written = False

    def __init__(self, dispatch: Dispatch, method: Method, requests: Any, *how: Any) -> None:
        if requests is not None and not isinstance(requests, Replay):
            requests = Replay(requests)
        super().__init__(dispatch, method, requests, *how)

    def is_spent(self) -> bool:
        """Whether requests are gone that another connection would need."""
        return self._written or (self.request is not None and self.request.is_spent)

    async def write(self, request: Any) -> None:
        """Send one message.

        Raises:
            grpc.aio.AioRpcError: the call ended with an error.
            asyncio.InvalidStateError: the call or its request stream has ended already.
        """
        await self.do(methodcaller("write", request))
        self._written = True

    async def done_writing(self) -> None:
        """Say that no message will follow; twice is fine."""
        self._written = True
        await self.do(methodcaller("done_writing"))


class UnaryUnaryCall(_UnaryResponse, grpc.aio.UnaryUnaryCall[Any, Any]):
    """One request, one response."""


class UnaryStreamCall(_StreamResponse, grpc.aio.UnaryStreamCall[Any, Any]):
    """One request, a stream of responses."""

    async def do(self, operation: Callable[[Any], Awaitable[Any]]) -> Any:
        """Do something with the call on the wire, again if it has moved meanwhile."""
        try:
            return await super().do(operation)
        except (grpc.aio.AioRpcError, grpc.aio.UsageError, StopAsyncIteration):
            raise
        except Exception:
            if self.wire is not None:
                self.wire.cancel()  # a message that cannot be serialized: see _UnaryResponse
            raise


class StreamUnaryCall(_StreamRequest, _UnaryResponse, grpc.aio.StreamUnaryCall[Any, Any]):
    """A stream of requests, one response."""


class StreamStreamCall(_StreamRequest, _StreamResponse, grpc.aio.StreamStreamCall[Any, Any]):
    """A stream of requests, a stream of responses."""
