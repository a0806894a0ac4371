"""Call objects: what a stub's method returns.

A call here is a relay to grpc.aio's own call on one connection. It exists because

- the connection may not be known yet: the call waits in its channel's queue, without a task;
- a call that found no connection goes to another endpoint, unseen by whoever awaits it;
- grpc.aio's calls cannot be told apart from their canceller: see `cancellation.py`.

On the good path it adds one object, one callback and no task. An outcome is kept as a value, so
that an error nobody asks for makes no noise.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from operator import methodcaller
from typing import Any, Final, NoReturn

import anyio
import grpc
import grpc.aio

from meshkit.client.cancellation import LOCALLY, heed
from meshkit.client.explain import rpc_error
from meshkit.client.journey import Journey

__all__ = ["Call"]

_CLOSED: Final = "Channel closed while the call was running."
_CONNECTION: Final = methodcaller("wait_for_connection")


class Call(Journey):
    """What the four shapes share: the public face of a call, and waiting for grpc.aio's."""

    # ---- grpc.RpcContext

    def cancelled(self) -> bool:
        """Whether the call was cancelled."""
        self.judge()
        return self._code is grpc.StatusCode.CANCELLED

    def done(self) -> bool:
        """Whether the call has ended."""
        self.judge()
        return self._code is not None

    def cancel(self) -> bool:
        """Cancel the call; False if it has ended already."""
        self.judge()
        if self._code is not None:
            return False
        self._is_cancelled = True
        if self.wire is not None:
            return bool(self.wire.cancel())
        self.settle(rpc_error(grpc.StatusCode.CANCELLED, LOCALLY))
        return True

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """Call `callback(self)` when the call has ended, or at once if it has."""
        self.judge()
        if self._code is not None:
            callback(self)
        elif self._callbacks is None:
            self._callbacks = [callback]
        else:
            self._callbacks.append(callback)

    # ---- grpc.aio.Call

    async def _on_wire(self) -> Any:
        """grpc.aio's call, as soon as there is one; None if the verdict is our own."""
        while self.wire is None and self._code is None:
            if self._moved is None:
                self._moved = anyio.Event()
            await self._moved.wait()
        return self.wire

    async def _ask(self, question: str) -> Any:
        """What the call on the wire answers, wherever it has moved to; or our own verdict."""
        while (call := await self._on_wire()) is not None:
            answer = await getattr(call, question)()
            self.judge()
            if call is self.wire:
                return answer
        return getattr(self._error, question)()

    async def initial_metadata(self) -> grpc.aio.Metadata:
        """The server's initial metadata."""
        answer: grpc.aio.Metadata = await self._ask("initial_metadata")
        return answer

    async def trailing_metadata(self) -> grpc.aio.Metadata:
        """The server's trailing metadata, once the call has ended."""
        answer: grpc.aio.Metadata = await self._ask("trailing_metadata")
        return answer

    async def code(self) -> grpc.StatusCode:
        """The status, once the call has ended."""
        answer: grpc.StatusCode = await self._ask("code")
        return answer

    async def details(self) -> str:
        """The status details, once the call has ended."""
        answer: str = await self._ask("details")
        return answer

    async def debug_error_string(self) -> str:
        """Core's words about the error, once the call has ended."""
        answer: str = await self._ask("debug_error_string")
        return answer

    async def wait_for_connection(self) -> None:
        """Return when the call is on a connection.

        Raises:
            grpc.aio.AioRpcError: it ended before.
        """
        await self.do(_CONNECTION)

    # ---- for the shapes: waiting for grpc.aio's call

    async def sent(self) -> Any:
        """grpc.aio's call, as soon as there is one; raises our own verdict."""
        try:
            call = await self._on_wire()
        except asyncio.CancelledError:
            self.cancel()  # as grpc.aio does when whoever awaits a call is cancelled
            raise
        if call is None:
            assert self._error is not None  # noqa: S101 -- the only way to end without a call
            raise asyncio.CancelledError if self._is_cancelled else self._error
        return call

    async def do(self, operation: Callable[[Any], Awaitable[Any]]) -> Any:
        """Do something with the call on the wire, again if it has moved meanwhile."""
        while True:
            call = self.wire or await self.sent()
            try:
                return await operation(call)
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                self.judge()
                if call is self.wire:
                    raise
            except grpc.aio.InternalError:  # core could not: the call is ending
                await call.code()
                self.judge()
                if call is self.wire:
                    raise
            except asyncio.CancelledError as error:
                await self.interrupted(error)

    async def interrupted(self, error: asyncio.CancelledError) -> NoReturn:
        """A CancelledError came out of grpc.aio: raise what it really was."""
        self.judge()
        await heed(error)
        if self._is_cancelled:
            raise error
        # Cut by `close`, or by the cancellation of somebody else who awaited the same call.
        words = _CLOSED if self._dispatch.is_closed else LOCALLY
        raise rpc_error(grpc.StatusCode.CANCELLED, words) from None
