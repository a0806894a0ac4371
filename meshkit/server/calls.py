"""What a server knows of its calls: how many run, when the last began, that they should end.

An RPC of grpc.aio is one asyncio task: interceptors and handler run in it. So its end is the
task's end, whatever the handler does (answer, abort, raise, be cancelled), nothing has to be
wrapped, and a message costs nothing. gRPC's own count is not enough: it takes an aborted call for
ended while its handler still works (grpc/grpc#37239).
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, ParamSpec, TypeVar, final

import anyio
import grpc

from meshkit.server.behavior import Surroundings
from meshkit.server.gate import Gate
from meshkit.server.limit import Place

__all__ = ["Calls", "Draining", "HandlerThreads", "Quiet", "draining"]

P = ParamSpec("P")
T = TypeVar("T")

# Watches of health and open reflection streams are nobody's work.
_NOT_COUNTED: Final = ("/grpc.health.", "/grpc.reflection.")


@final
class Draining:
    """Whether the server of a call is about to stop. From `meshkit.draining()`."""

    __slots__ = ("_begun",)

    def __init__(self) -> None:
        self._begun = asyncio.Event()

    def is_set(self) -> bool:
        """True from the moment the server begins to leave; may be asked from any thread."""
        return self._begun.is_set()

    async def wait(self) -> None:
        """Return when the server begins to leave."""
        await self._begun.wait()


_draining: contextvars.ContextVar[Draining] = contextvars.ContextVar("meshkit_draining")


def draining() -> Draining:
    """Inside a handler: whether its server is about to stop.

    A long stream can end by itself then, at a point that suits its client, before the server's
    `grace` runs out and the stream is cut:

    ```python
    async def Follow(self, request, context):
        leaving = meshkit.draining()
        while not leaving.is_set():
            yield await self.next_update()
    ```

    Outside a call of a meshkit server it is never set, so that handlers can be tested alone.
    """
    return _draining.get(None) or Draining()


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Quiet:
    """When a server that left the registry may believe that no new call comes. Seconds.

    Attributes:
        at_least: the time that the news needs to reach clients.
        window: so long no call must have begun.
        at_most: no longer than this, calls or not.
    """

    at_least: float = 0.5
    window: float = 0.3
    at_most: float = 5.0


@final
class Calls(grpc.aio.ServerInterceptor):
    """Counts the calls of a server, lets them in or not, and sees to their surroundings.

    Health checks and reflection aside: they are nobody's work, and never refused. Must be the
    server's first interceptor, and is its only one of ours: each costs a call some microseconds.

    Args:
        gate: limits the calls; None: nothing does.
        surroundings: what is put around handlers; None: nothing is.

    Attributes:
        in_flight: calls that have begun and not ended.
        draining: what handlers get from `meshkit.draining()`.
    """

    def __init__(self, gate: Gate | None = None, surroundings: Surroundings | None = None) -> None:
        self.in_flight = 0
        self.draining = Draining()
        self._gate = gate
        self._surroundings = surroundings
        self._by_method: dict[str, int] = {}
        self._last_began = float("-inf")  # on the loop's clock
        self._idle: anyio.Event | None = None

    @property
    def by_method(self) -> Mapping[str, int]:
        """Calls in flight of each method that has any, now."""
        return dict(self._by_method)

    async def intercept_service(
        self,
        continuation: Callable[
            [grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]
        ],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Count the call until its task ends, and find what handles it."""
        _draining.set(self.draining)
        method, gate = handler_call_details.method, self._gate
        if method.startswith(_NOT_COUNTED):
            return await continuation(handler_call_details)
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 -- for the type checker: a coroutine runs in a task
        place = self._begin(method, task)
        if gate is not None and place is None:
            return gate.refusal()
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        if gate is not None and place is not None:
            gate.found(place, handler)
        return self._surroundings.of(method, handler) if self._surroundings else handler

    def _begin(self, method: str, task: asyncio.Task[Any]) -> Place | None:
        self.in_flight += 1
        self._by_method[method] = self._by_method.get(method, 0) + 1
        self._last_began = now = task.get_loop().time()
        place = None if self._gate is None else self._gate.enter(now)
        task.add_done_callback(functools.partial(self._end, method, place))
        return place

    def _end(self, method: str, place: Place | None, task: asyncio.Task[Any]) -> None:
        if self._gate is not None and place is not None:
            self._gate.leave(place, method, task.get_loop().time())
        self.in_flight -= 1
        left = self._by_method.pop(method) - 1
        if left:
            self._by_method[method] = left
        if not self.in_flight and self._idle is not None:
            self._idle.set()
            self._idle = None

    def limits(self) -> str:
        """How many calls are in flight and may be, for people; "" without a limit."""
        if self._gate is None:
            return ""
        limiter = self._gate.limiter
        return f" | {self.in_flight} in flight, limit {limiter.limit}, {limiter.refused} refused"

    def ask_to_end(self) -> None:
        """Let handlers know that the server drains."""
        self.draining._begun.set()  # noqa: SLF001 -- handlers may look, only we may set

    async def quiet(self, wanted: Quiet) -> None:
        """Return when new calls have ceased, as `wanted` says."""
        now = asyncio.get_running_loop().time
        with anyio.move_on_after(wanted.at_most):
            await anyio.sleep(wanted.at_least)
            while (left := self._last_began + wanted.window - now()) > 0:  # noqa: ASYNC110 -- no poll
                await anyio.sleep(left)

    async def idle(self) -> None:
        """Return when no call is in flight."""
        while self.in_flight:
            if self._idle is None:
                self._idle = anyio.Event()
            await self._idle.wait()


@final
class HandlerThreads(ThreadPoolExecutor):
    """Threads for handlers that are not `async`; unlike grpc.aio's, with the call's context."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run `fn` in a thread, with the context variables of the caller."""
        context = contextvars.copy_context()
        return super().submit(lambda: context.run(fn, *args, **kwargs))
