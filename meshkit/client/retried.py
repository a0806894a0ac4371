"""Calls that are tried again on another endpoint after they failed on one (gRFC A6).

Only methods with a retry policy have such calls; all others do not pay for it. A call that waits
for its next attempt is like one in the queue: no task, an entry and a timer.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, final

import anyio
import grpc
import grpc.aio

from meshkit.client.call import Call
from meshkit.client.cancellation import LOCALLY
from meshkit.client.course import PUSHBACK, Course, pushback_of
from meshkit.client.journey import at_once
from meshkit.client.metadata import counted
from meshkit.client.replay import Replay, Written
from meshkit.client.shapes import (
    StreamStreamCall,
    StreamUnaryCall,
    UnaryStreamCall,
    UnaryUnaryCall,
)

if TYPE_CHECKING:
    from meshkit.client.dispatch import Dispatch
    from meshkit.client.plan import Plan
    from meshkit.client.subchannel import Subchannel

__all__ = [
    "RetriedStreamStreamCall",
    "RetriedStreamUnaryCall",
    "RetriedUnaryStreamCall",
    "RetriedUnaryUnaryCall",
]

_MOMENT: Final = 0.02  # seconds
_FINISHED: Final = "RPC already finished."  # grpc.aio's words
_HALF_CLOSED: Final = 'RPC is half closed after calling "done_writing".'


class _Retried(Call):
    """What the four shapes share: when there is another attempt, and where."""

    _is_committed = False

    def __init__(self, plan: Plan, dispatch: Dispatch, *how: Any) -> None:
        self._policy = plan.retry
        self._plans = plans = dispatch.plans
        plans.budget.earn(dispatch.now())
        super().__init__(dispatch, *how)

    # Made when an attempt has failed: most never do.

    @cached_property
    def _course(self) -> Course:
        assert self._policy is not None  # noqa: S101 -- or the call would be of another class
        return Course(self._policy)

    @cached_property
    def _tried(self) -> set[Subchannel]:
        return set()

    def ended(self, call: Any) -> None:
        """The call on the wire has ended: account for it."""
        self._plans.budget.ended()
        super().ended(call)
        if self._plans.throttle is not None:  # it wants to hear of successes
            self.judge()

    def conclude(self, code: grpc.StatusCode) -> None:
        """The call on the wire has ended with `code`: is it tried again, and when?"""
        if code is grpc.StatusCode.OK:
            if self._plans.throttle is not None:
                self._plans.throttle.succeeded()
            self._finish(code)
            return
        trailers = at_once(self.wire.trailing_metadata())
        pushback = pushback_of(None if trailers is None else trailers.get(PUSHBACK))
        if self.node is not None:
            self._tried.add(self.node)
        wait = self._next_wait(code, pushback)
        if wait is None:
            self._finish(code)
        else:
            self._rest(wait)

    def refused(self, verdict: grpc.aio.AioRpcError) -> None:
        """No endpoint can take the call: one of its attempts has failed."""
        wait = self._next_wait(verdict.code(), None)
        if wait is None:
            self.settle(verdict)
        else:
            self._leave_queue()
            self._rest(wait)

    def _next_wait(self, code: grpc.StatusCode, pushback: float | None) -> float | None:
        """Seconds until the next attempt, which is paid for; None if there is none."""
        plans, throttle = self._plans, self._plans.throttle
        if self._course.is_failure(code.name, pushback):
            plans.failed()
        wait = self._course.next_wait(code.name, pushback, plans.die())
        if wait is None or self._is_bound(code):
            return None
        left = self.time_remaining()
        if left is not None and wait >= left:
            return None
        if throttle is not None and not throttle.allows:
            return None
        return wait if plans.budget.spend(self._dispatch.now()) else None

    def _is_bound(self, code: grpc.StatusCode) -> bool:
        """Whether there can be no other attempt, whatever the policy says."""
        if self._is_committed or self._is_cancelled or self._dispatch.is_closed:
            return True
        call = self.wire
        if call is not None:
            if code is grpc.StatusCode.CANCELLED and at_once(call.details()) == LOCALLY:
                return True
            if at_once(call.initial_metadata()):  # so there were response headers
                return True
        return not self.is_kept()

    def is_kept(self) -> bool:
        """Whether all that was sent can be sent again."""
        limit: int = self._plans.limits.buffer
        return self._method.size(self.request) <= limit

    def _rest(self, seconds: float) -> None:
        """Wait for the next attempt."""
        self.wire = None
        self._dispatch.resting.add(self)
        self._timer = asyncio.get_running_loop().call_later(seconds, self.on_rested())

    def on_rested(self) -> Callable[[], None]:
        """What is called when the next attempt is due."""
        return self._try_again

    def _try_again(self) -> None:
        self._timer = None
        self._dispatch.resting.discard(self)
        self._options = counted(self._options, self._course.attempts)
        self._course.attempts += 1
        node = self._dispatch.pick_other(self, self._tried)
        if node is None:
            self._enqueue()
        else:
            self._send_again(node)

    def _leave_queue(self) -> None:
        self._dispatch.resting.discard(self)
        super()._leave_queue()

    def commit(self) -> None:
        """The caller has seen something of the answer: there is no other attempt."""
        self._is_committed = True

    async def initial_metadata(self) -> grpc.aio.Metadata:
        """The server's initial metadata; who knows them gets no other attempt.

        An error may come without any, and grpc.aio does not say so before the error is there: if
        there is nothing in them, it is waited for a moment.
        """
        while True:
            answer = await super().initial_metadata()
            call = self.wire
            if not answer and not self.done():
                with anyio.move_on_after(_MOMENT):
                    await call.code()
                self.done()  # judges
            if call is self.wire:
                self.commit()
                return answer


class _RetriedResponses(_Retried):
    """A stream of responses: the first one commits the call to its attempt."""

    def on_rested(self) -> Callable[[], None]:
        """A call that nobody holds any more is not tried again."""
        this = weakref.ref(self)

        def rested() -> None:
            if (still_held := this()) is not None:
                still_held._try_again()  # noqa: SLF001 -- it is this class

        return rested

    async def __anext__(self) -> Any:
        response = await super().__anext__()  # type: ignore[misc]  # of the shape
        self.commit()
        return response

    async def read(self) -> Any:
        """The next message, or `grpc.aio.EOF`."""
        response = await super().read()  # type: ignore[misc]
        self.commit()
        return response


class _RetriedRequests(_Retried):
    """A stream of requests, which are kept until the call is committed to an attempt."""

    def __init__(self, plan: Plan, *how: Any) -> None:
        dispatch, method, requests, *rest = how
        self._writer: Written | None = None
        if requests is None:
            requests = self._writer = Written()
        kept = Replay(requests, dispatch.plans.limits.buffer, method.size)
        super().__init__(plan, dispatch, method, kept, *rest)

    def is_kept(self) -> bool:
        """Whether all that was sent can be sent again."""
        return not self.request.is_spent

    def commit(self) -> None:
        """There is no other attempt: no request has to be kept."""
        super().commit()
        self.request.commit()

    def _finish(self, code: grpc.StatusCode) -> None:
        if self._writer is not None:
            self._writer.close()
        super()._finish(code)

    async def write(self, request: Any) -> None:
        """Send one message; see `_StreamRequest`."""
        if self._writer is None:
            await super().write(request)  # type: ignore[misc]  # which refuses it
            return
        if self.done():
            raise asyncio.InvalidStateError(_FINISHED)
        if self._writer.is_ended:
            raise asyncio.InvalidStateError(_HALF_CLOSED)
        try:
            was_sent = await self._writer.put(request)
        except asyncio.CancelledError:
            self.cancel()  # as grpc.aio does it
            raise
        if not was_sent:
            raise await self._outcome()

    async def done_writing(self) -> None:
        """Say that no message will follow; twice is fine."""
        if self._writer is None:
            await super().done_writing()  # type: ignore[misc]
        else:
            self._writer.end()

    async def _outcome(self) -> Exception:
        """What a write meets that came too late."""
        code = await self.code()
        if code is grpc.StatusCode.OK or self._is_cancelled:
            return asyncio.InvalidStateError(_FINISHED)
        return grpc.aio.AioRpcError(
            code,
            await self.initial_metadata(),
            await self.trailing_metadata(),
            details=await self.details(),
            debug_error_string=await self.debug_error_string(),
        )


@final
class RetriedUnaryUnaryCall(_Retried, UnaryUnaryCall):
    """One request, one response; tried again."""


@final
class RetriedUnaryStreamCall(_RetriedResponses, UnaryStreamCall):
    """One request, a stream of responses; tried again before the first one."""


@final
class RetriedStreamUnaryCall(_RetriedRequests, StreamUnaryCall):
    """A stream of requests, one response; tried again."""


@final
class RetriedStreamStreamCall(_RetriedRequests, _RetriedResponses, StreamStreamCall):
    """A stream of requests, a stream of responses; tried again before the first one."""
