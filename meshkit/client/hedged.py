"""Calls that are sent again while they are slow, and answered by whoever is first (gRFC A6).

Until it is decided which attempt is the call, it is like one in the queue: nothing is on the wire
for those who wait for it. Only methods with a hedging policy have such calls.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, final

import grpc
import grpc.aio

from meshkit.client.call import Call
from meshkit.client.course import PUSHBACK, pushback_of
from meshkit.client.journey import at_once
from meshkit.client.metadata import counted
from meshkit.client.shapes import UnaryStreamCall, UnaryUnaryCall

if TYPE_CHECKING:
    from meshkit.client.plan import Plan
    from meshkit.client.subchannel import Subchannel

_NOTHING: Final = object()

__all__ = ["HedgedUnaryStreamCall", "HedgedUnaryUnaryCall"]


class _Hedged(Call):
    """What the two shapes share: when there is another attempt, and which one is the call."""

    def __init__(self, plan: Plan, *how: Any) -> None:
        assert plan.hedging is not None  # noqa: S101 -- or the call would be of another class
        self._policy = plan.hedging
        self._latency = plan.latency
        self._attempts: dict[Any, tuple[Subchannel, float]] = {}  # under way: where, since when
        self._begun = 0  # those that no server has seen do not count
        self._tried: set[Subchannel] = set()
        self._last: Any = None  # the attempt that has failed last
        self._due: asyncio.TimerHandle | None = None  # when there will be another
        dispatch = how[0]
        self._plans = dispatch.plans
        self._plans.budget.earn(dispatch.now())
        super().__init__(*how)

    # ---- attempts begin

    def send(self, node: Subchannel, timeout: float | None) -> None:
        """Begin an attempt on a connection."""
        options = counted(self._options, self._begun) if self._begun else self._options or {}
        call = node.multicallables[self._method](self.request, timeout=timeout, **options)
        node.start()
        self.node, self._sent_at = node, self._dispatch.now()
        self._attempts[call] = node, self._sent_at
        self._begun += 1
        self._tried.add(node)
        call.add_done_callback(self.on_end())
        self._plan_another(self._delay())

    def _delay(self) -> float | None:
        """Seconds until another attempt, unless something happens; None: never."""
        delay = self._policy.hedging_delay
        if self._latency is None:
            return delay
        usual = self._latency.value
        return max(delay, usual) if usual is not None else delay or None

    def _plan_another(self, seconds: float | None) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None
        if seconds is not None and self._begun < self._policy.max_attempts:
            self._due = asyncio.get_running_loop().call_later(seconds, self.on_due())

    def on_due(self) -> Callable[[], None]:
        """What is called when another attempt is due."""
        return self._hedge

    def _hedge(self) -> None:
        """Begin another attempt, on an endpoint that has none under way, if it can be paid for."""
        self._due = None
        plans, left = self._plans, self.time_remaining()
        if left != 0 and (plans.throttle is None or plans.throttle.allows):
            node = self._dispatch.pick_other(self, self._tried)
            busy = {node for node, _ in self._attempts.values()}
            if node is not None and node not in busy and plans.budget.spend(self._dispatch.now()):
                self._send_again(node)
        self._give_up_if_idle()

    def _give_up_if_idle(self) -> None:
        """If no attempt is under way and none will follow, the last failure is the answer."""
        if self._attempts or self._due is not None or not self._is_open():
            return
        self.choose(self._last)

    # ---- attempts end

    def ended(self, call: Any) -> None:
        """An attempt has ended: account for it, and see what it means."""
        self._plans.budget.ended()
        if call is self.wire:
            super().ended(call)
            return
        node, sent_at = self._attempts[call]
        now = self._dispatch.now()
        took = now - sent_at
        node.finish(took, now)
        if not self._is_open():  # another was first: this one took longer than it has had
            del self._attempts[call]
            if self._latency is not None:
                self._latency.add_longer_than(took)
            return
        code = at_once(call.code()) or grpc.StatusCode.UNKNOWN
        if code is grpc.StatusCode.OK:
            if self._latency is not None:
                self._latency.add(took)
            self.choose(call)
            if node.suspect:
                self._dispatch.hear(node, code, sent_at)
        else:
            self._failed(call, node, code)

    def _is_open(self) -> bool:
        """Whether no attempt is the call yet."""
        return self.wire is None and self._code is None

    def _failed(self, call: Any, node: Subchannel, code: grpc.StatusCode) -> None:
        if code is grpc.StatusCode.UNAVAILABLE and self._moves_on(node, call):
            return
        self._dispatch.hear(node, code, self._attempts[call][1])
        trailers = at_once(call.trailing_metadata())
        pushback = pushback_of(None if trailers is None else trailers.get(PUSHBACK))
        told_not_to = pushback is not None and pushback < 0
        is_fatal = code.name not in self._policy.non_fatal_status_codes
        if told_not_to or not is_fatal:
            self._plans.failed()
        if is_fatal or self._dispatch.is_closed:
            self.choose(call)
            return
        self._last = call
        del self._attempts[call]
        if told_not_to:
            self._begun = self._policy.max_attempts
            self._plan_another(None)
        else:
            self._plan_another(pushback or 0.0)
        self._give_up_if_idle()

    def _moves_on(self, node: Subchannel, call: Any) -> bool:
        """Let another endpoint have an attempt that no server has seen; whether it was so."""
        if call is self.wire:  # one with a response, so it was seen
            return False
        details = at_once(call.details()) or ""
        if not node.unseen(details, self._attempts[call][1]):
            return False
        del self._attempts[call]
        self._begun -= 1
        node.fail()
        self._dispatch.lost(node, details)
        if self._dispatch.is_closed:
            self.settle(self._dispatch.unavailable(self))
        elif (other := self._dispatch.pick_other(self, self._tried)) is not None:
            self._send_again(other)
        elif not self._attempts:
            self._plan_another(None)
            self._enqueue()
        return True

    # ---- the end of it

    def choose(self, call: Any) -> None:
        """One attempt is the call from now on; the others are cancelled."""
        self._plan_another(None)
        self.wire = call
        if call in self._attempts:
            self.node, self._sent_at = self._attempts.pop(call)
        self._cancel_attempts()
        self._leave_queue()
        if call.done():
            self.conclude(at_once(call.code()) or grpc.StatusCode.UNKNOWN)

    def conclude(self, code: grpc.StatusCode) -> None:
        """The attempt that is the call has ended, and so has the call."""
        if code is grpc.StatusCode.OK and self._plans.throttle is not None:
            self._plans.throttle.succeeded()
        self._finish(code)

    def settle(self, error: grpc.aio.AioRpcError) -> None:
        """End the call with a verdict of our own."""
        super().settle(error)
        self._plan_another(None)
        self._cancel_attempts()

    def _cancel_attempts(self) -> None:
        for call in list(self._attempts):
            call.cancel()


@final
class HedgedUnaryUnaryCall(_Hedged, UnaryUnaryCall):
    """One request, one response: the first one that comes."""


@final
class HedgedUnaryStreamCall(_Hedged, UnaryStreamCall):
    """One request, a stream of responses: the first one that begins."""

    _first: Any = _NOTHING  # a response that nobody has read yet

    def __init__(self, plan: Plan, *how: Any) -> None:
        super().__init__(plan, *how)
        if self._is_open():
            self.cancel_if_dropped(self._attempts)

    def send(self, node: Subchannel, timeout: float | None) -> None:
        """Begin an attempt on a connection, and wait for its first response."""
        super().send(node, timeout)
        [*_, call] = self._attempts
        self._dispatch.start("hedge", _first_response, call, weakref.ref(self))

    def on_due(self) -> Callable[[], None]:
        """A call that nobody holds any more is not sent again."""
        this = weakref.ref(self)

        def due() -> None:
            if (still_held := this()) is not None:
                still_held._hedge()  # noqa: SLF001 -- it is this class

        return due

    def begins(self, call: Any, response: Any) -> None:
        """An attempt has a response: unless another had one before, it is the call."""
        if not self._is_open():
            return
        if self._latency is not None:
            self._latency.add(self._dispatch.now() - self._attempts[call][1])
        self._first = response
        self.choose(call)
        self.responded()

    def choose(self, call: Any) -> None:
        """One attempt is the call from now on; the others are cancelled."""
        super().choose(call)
        self.cancel_if_dropped([call])

    async def __anext__(self) -> Any:
        response = await self.read()
        if response is grpc.aio.EOF:
            raise StopAsyncIteration
        return response

    async def read(self) -> Any:
        """The next message, or `grpc.aio.EOF`."""
        await self.sent()
        response, self._first = self._first, _NOTHING
        return await super().read() if response is _NOTHING else response


async def _first_response(call: Any, this: weakref.ref[HedgedUnaryStreamCall]) -> None:
    """Wait for the first response of an attempt; how it ends without one, it tells by itself."""
    try:
        response = await call.read()
    except grpc.aio.AioRpcError:
        return
    except asyncio.CancelledError:
        if not call.cancelled():
            raise
        return
    if response is not grpc.aio.EOF and (still_held := this()) is not None:
        still_held.begins(call, response)
