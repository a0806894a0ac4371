"""Where a call is: waiting in its channel's queue, on a connection, on the next one, at its end.

All of it is synchronous, so that nothing can come in between. A waiting call is no task: it is an
entry in the queue and, with a deadline, a timer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import grpc
import grpc.aio

from meshkit.client.explain import rpc_error
from meshkit.deadline import overdue
from meshkit.orca import TRAILER, LoadReport

if TYPE_CHECKING:
    from meshkit.client.dispatch import Dispatch
    from meshkit.client.subchannel import Method, Subchannel

__all__ = ["Journey", "at_once"]

T = TypeVar("T")


def at_once(answer: Coroutine[Any, Any, T]) -> T | None:
    """The result of a coroutine that needs no waiting; None if it has none."""
    try:
        answer.send(None)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    except Exception:  # noqa: BLE001 -- of an interceptor; whoever awaits the call meets it
        return None
    answer.close()
    return None


class Journey:
    """What becomes of one call until it ends, and who is told then."""

    # Of the class, as long as the call does not need its own: most calls never do.
    wire: Any = None  # grpc.aio's call, once there is a connection for it
    node: Subchannel | None = None
    _code: grpc.StatusCode | None = None  # set when the call has ended
    _error: grpc.aio.AioRpcError | None = None  # our own verdict, if it is not the wire's
    _unjudged: Any = None  # grpc.aio's call that has ended and was not asked for its status yet
    _deadline: float | None = None  # by the dispatch's clock
    wait_for_ready = False
    point: int | None = None  # which share of a route's destinations the call belongs to
    _options: Mapping[str, Any] | None = None  # for grpc.aio, as they are
    _has_response = False  # the first one of a stream: the node knows how long it took
    _is_awaited = False
    _is_cancelled = False
    _callbacks: list[Callable[[Any], None]] | None = None
    _moved: anyio.Event | None = None
    _timer: asyncio.TimerHandle | None = None
    _sent_at = 0.0  # by the dispatch's clock

    def __init__(
        self,
        dispatch: Dispatch,
        method: Method,
        request: Any,
        timeout: float | None,
        wait_for_ready: bool | None,
        options: Mapping[str, Any] | None,
    ) -> None:
        self._dispatch = dispatch
        self._method = method
        self.request = request
        left = dispatch.time_remaining()
        if left is not None and (timeout is None or left < timeout):
            timeout = left
        if timeout is None:
            dispatch.unbounded += 1
        else:
            self._deadline = dispatch.now() + timeout
        if wait_for_ready:
            self.wait_for_ready = True
        if options is not None:
            self._options = options
        if left is not None and left <= 0:
            self.settle(rpc_error(grpc.StatusCode.DEADLINE_EXCEEDED, overdue()))
            return
        node = dispatch.pick(self) or dispatch.last_resort(self)
        if node is None:
            self._enqueue()
        else:
            self.send(node, timeout)

    @property
    def path(self) -> str:
        """The method's full name."""
        return self._method.path

    @property
    def metadata(self) -> Sequence[tuple[str, str | bytes]]:
        """What the caller sends along."""
        options = self._options
        return () if options is None else options.get("metadata") or ()

    def send(self, node: Subchannel, timeout: float | None) -> None:
        """Put the call on a connection."""
        self.node = node
        start, options = node.multicallables[self._method], self._options
        if options is None:
            self.wire = call = start(self.request, timeout=timeout)
        else:
            self.wire = call = start(self.request, timeout=timeout, **options)
        node.start()
        self._sent_at = self._dispatch.now()
        call.add_done_callback(self.on_end())

    def on_end(self) -> Callable[[Any], None]:
        """What grpc.aio's call has to tell its end to."""
        return self.ended

    def retry_pick(self) -> None:
        """From the queue: leave it if there is a connection now, or no hope."""
        if self._code is not None:  # ended by a done callback of one before it in the queue
            return
        node = self._dispatch.pick(self) or self._dispatch.last_resort(self)
        if node is not None:
            self._send_again(node)
        elif (verdict := self._dispatch.verdict(self)) is not None:
            self.refused(verdict)

    def _send_again(self, node: Subchannel) -> None:
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
        verdict = self._dispatch.verdict(self)
        if verdict is not None:
            self.refused(verdict)
            return
        self._dispatch.queue[self] = None
        if self._deadline is not None:
            self._timer = asyncio.get_running_loop().call_at(self._deadline, self._expire)

    def refused(self, verdict: grpc.aio.AioRpcError) -> None:
        """No endpoint can take the call, and there is nothing to wait for."""
        self.settle(verdict)

    def _expire(self) -> None:
        self.settle(self._dispatch.overdue(self))

    def _leave_queue(self) -> None:
        self._dispatch.queue.pop(self, None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        moved, self._moved = self._moved, None
        if moved is not None:
            moved.set()

    def ended(self, call: Any) -> None:
        """The call on the wire has ended: account for it.

        Asking grpc.aio for the status costs as much as all the rest that we do. Whoever awaits the
        response meets an error anyway and asks for a judgement then; a response needs none.
        """
        assert self.node is not None  # noqa: S101 -- `send` has set it
        now = self._dispatch.now()
        self.node.finish(None if self._has_response else now - self._sent_at, now)
        if self._dispatch.reads_reports:
            self._read_report(self.node, call, now)
        self._unjudged = call
        if not self._is_awaited or self._callbacks is not None or self.node.suspect:
            self.judge()

    def _read_report(self, node: Subchannel, call: Any, now: float) -> None:
        trailers = at_once(call.trailing_metadata())
        said = None if trailers is None else trailers.get(TRAILER)
        report = LoadReport.from_bytes(said) if isinstance(said, bytes) else None
        if report is not None:
            node.tell(report, now)

    def judge(self) -> None:
        """Is the end of the call on the wire the end of ours?"""
        call, self._unjudged = self._unjudged, None
        if call is None:
            return
        code = at_once(call.code()) or grpc.StatusCode.UNKNOWN
        node = self.node
        if node is not None and (code is not grpc.StatusCode.OK or node.suspect):
            if code is grpc.StatusCode.UNAVAILABLE and self._moves_on(node, call):
                return
            self._dispatch.hear(node, code, self._sent_at)
        self.conclude(code)

    def conclude(self, code: grpc.StatusCode) -> None:
        """The call on the wire has ended with `code`, and so has ours."""
        self._finish(code)

    def _moves_on(self, node: Subchannel, call: Any) -> bool:
        """Let another endpoint have the call, if no server has seen it; whether it was so.

        It ends, since each move leaves an endpoint behind that is not picked before it is
        connected again.
        """
        details = at_once(call.details()) or ""
        if not node.unseen(details, self._sent_at):
            return False
        node.fail()
        self._dispatch.lost(node, details)
        if self._dispatch.is_closed or self.is_spent():
            self.settle(self._dispatch.unavailable(self))
        elif (other := self._dispatch.pick(self)) is not None:
            self._send_again(other)
        else:
            self._enqueue()
        return True

    def is_spent(self) -> bool:
        """Whether requests are gone that a second try would need."""
        return False

    def settle(self, error: grpc.aio.AioRpcError) -> None:
        """End the call with a verdict of our own."""
        if self._code is None:
            self._error = error
            self.wire = None
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

    def time_remaining(self) -> float | None:
        """Seconds to the deadline, at least 0.0; None without one."""
        return None if self._deadline is None else max(0.0, self._deadline - self._dispatch.now())
