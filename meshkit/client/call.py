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
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

import anyio
import grpc
import grpc.aio

from meshkit.client.cancellation import heed
from meshkit.client.explain import rpc_error

if TYPE_CHECKING:
    from meshkit.client.channel import Channel
    from meshkit.client.subchannel import Method, Subchannel

__all__ = ["Call"]

T = TypeVar("T")

_CANCELLED: Final = "Locally cancelled by application!"  # grpc.aio's words
_CLOSED: Final = "Channel closed while the call was running."


def _now(answer: Coroutine[Any, Any, T]) -> T | None:
    """The result of a coroutine that needs no waiting; None if it has none."""
    try:
        answer.send(None)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    except Exception:  # noqa: BLE001 -- of an interceptor; whoever awaits the call meets it
        return None
    answer.close()
    return None


def _connection(call: Any) -> Any:
    return call.wait_for_connection()


class Call:
    """What the four shapes share: where the call is, how it ends, who is told."""

    # Of the class, as long as the call does not need its own: most calls never do.
    wire: Any = None  # grpc.aio's call, once there is a connection for it
    node: Subchannel | None = None
    _code: grpc.StatusCode | None = None  # set when the call has ended
    _error: grpc.aio.AioRpcError | None = None  # our own verdict, if it is not the wire's
    _is_cancelled = False
    _callbacks: list[Callable[[Any], None]] | None = None
    _moved: anyio.Event | None = None
    _timer: asyncio.TimerHandle | None = None

    def __init__(
        self,
        channel: Channel,
        method: Method,
        request: Any,
        timeout: float | None,
        wait_for_ready: bool | None,
        options: dict[str, Any],
    ) -> None:
        self._channel = channel
        self._method = method
        self.request = request
        self._deadline = None if timeout is None else channel.now() + timeout
        self._wait_for_ready = bool(wait_for_ready)
        self._options = options
        node = channel.pick() or channel.last_resort(self._wait_for_ready)
        if node is None:
            self._enqueue()
        else:
            self.send(node, timeout)

    # ---- where the call is: synchronous, so that nothing can come in between

    def send(self, node: Subchannel, timeout: float | None) -> None:
        """Put the call on a connection."""
        self.node = node
        self.wire = call = node.multicallable(self._method)(
            self.request, timeout=timeout, **self._options
        )
        node.start()
        call.add_done_callback(self.on_end())

    def on_end(self) -> Callable[[Any], None]:
        """What grpc.aio's call has to tell its end to."""
        return self.ended

    def retry_pick(self) -> None:
        """From the queue: leave it if there is a connection now, or no hope."""
        if self._code is not None:  # ended by a done callback of one before it in the queue
            return
        node = self._channel.pick() or self._channel.last_resort(self._wait_for_ready)
        if node is not None:
            self._send_late(node)
        elif (verdict := self._channel.verdict(self._wait_for_ready)) is not None:
            self.settle(verdict)

    def _send_late(self, node: Subchannel) -> None:
        try:
            self.send(node, self.time_remaining())
        except Exception as error:  # noqa: BLE001 -- what grpc.aio tells who calls; they are gone
            verdict = rpc_error(grpc.StatusCode.INTERNAL, f"The call cannot be sent: {error!r}")
            verdict.__cause__ = error
            self.settle(verdict)
        else:
            self._leave_queue()

    def _enqueue(self) -> None:
        """Wait for a connection, as long as the deadline allows, or end now if there is no hope."""
        self.wire = None
        verdict = self._channel.verdict(self._wait_for_ready)
        if verdict is not None:
            self.settle(verdict)
            return
        self._channel.queue[self] = None
        if self._deadline is not None:
            self._timer = asyncio.get_running_loop().call_at(self._deadline, self._expire)

    def _expire(self) -> None:
        self.settle(self._channel.overdue())

    def _leave_queue(self) -> None:
        self._channel.queue.pop(self, None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        moved, self._moved = self._moved, None
        if moved is not None:
            moved.set()

    def ended(self, call: Any) -> None:
        """The call on the wire has ended: account for it; is that the end of ours?"""
        node = self.node
        assert node is not None  # noqa: S101 -- `send` has set it
        code = _now(call.code()) or grpc.StatusCode.UNKNOWN
        node.finish(code is grpc.StatusCode.OK)
        if code is grpc.StatusCode.UNAVAILABLE:
            details = _now(call.details()) or ""
            if node.was_never_sent(details):
                self._move_on(node, details)
                return
        self._finish(code)

    def _move_on(self, node: Subchannel, details: str) -> None:
        """No server has seen the call: another endpoint may have it.

        It ends, since each move leaves an endpoint behind that is not picked before it is
        connected again.
        """
        self._channel.lost(node, details)
        if self._channel.is_closed or self.is_spent():
            self.settle(self._channel.unavailable())
        elif (other := self._channel.pick()) is not None:
            self.send(other, self.time_remaining())
        else:
            self._enqueue()

    def is_spent(self) -> bool:
        """Whether requests are gone that a second try would need."""
        return False

    def settle(self, error: grpc.aio.AioRpcError) -> None:
        """End the call with a verdict of our own."""
        if self._code is None:
            self._error = error
            self.wire = None
            self._code = error.code()
            self._leave_queue()
            self._finish(error.code())

    def _finish(self, code: grpc.StatusCode) -> None:
        self._code = code
        callbacks, self._callbacks = self._callbacks, None
        for callback in callbacks or ():
            try:
                callback(self)
            except Exception as error:  # noqa: BLE001 -- others wait behind us: as asyncio does it
                context = {
                    "message": f"Exception in done callback {callback!r}",
                    "exception": error,
                }
                asyncio.get_running_loop().call_exception_handler(context)

    # ---- grpc.RpcContext

    def cancelled(self) -> bool:
        """Whether the call was cancelled."""
        return self._code is grpc.StatusCode.CANCELLED

    def done(self) -> bool:
        """Whether the call has ended."""
        return self._code is not None

    def time_remaining(self) -> float | None:
        """Seconds to the deadline, at least 0.0; None without one."""
        return None if self._deadline is None else max(0.0, self._deadline - self._channel.now())

    def cancel(self) -> bool:
        """Cancel the call; False if it has ended already."""
        if self._code is not None:
            return False
        self._is_cancelled = True
        if self.wire is not None:
            return bool(self.wire.cancel())
        self.settle(rpc_error(grpc.StatusCode.CANCELLED, _CANCELLED))
        return True

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """Call `callback(self)` when the call has ended, or at once if it has."""
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
        await self.do(_connection)

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

    async def do(self, operation: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        """Do something with the call on the wire, again if it has moved meanwhile."""
        while True:
            call = self.wire or await self.sent()
            try:
                return await operation(call, *args)
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                if call is self.wire:
                    raise
            except asyncio.CancelledError as error:
                await self.interrupted(error)

    async def interrupted(self, error: asyncio.CancelledError) -> NoReturn:
        """A CancelledError came out of grpc.aio: raise what it really was."""
        await heed(error)
        if self._is_cancelled:
            raise error
        # Cut by `close`, or by the cancellation of somebody else who awaited the same call.
        words = _CLOSED if self._channel.is_closed else _CANCELLED
        raise rpc_error(grpc.StatusCode.CANCELLED, words) from None
