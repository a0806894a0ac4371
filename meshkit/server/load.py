"""Load reports: at the end of each call a client learns how busy this server is (gRFC A51).

A client that balances by them (`weighted_round_robin`, gRFC A58, of any language) sends less to a
server that is busier. They are trailing metadata, so they cost no message of their own.
"""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import aclosing
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias, final

import grpc

from meshkit.errors import ConfigError
from meshkit.orca import CORE_TRAILER, TRAILER, LoadReport
from meshkit.server.behavior import Behavior

__all__ = ["Load", "LoadReports", "report_load"]

_Trailer: TypeAlias = "tuple[tuple[str, bytes], ...]"

# Failures that are the server's: a client that sends nonsense does not make it worse.
_FAILURES: Final = frozenset(
    {
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)
_KEYS: Final = frozenset({CORE_TRAILER, TRAILER})
_own: ContextVar[dict[str, Any] | None] = ContextVar("meshkit_load", default=None)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class LoadReports:
    """What a server reports of its load.

    Measured are calls and failures per second, and the processor time of this process as a share of
    one processor, which is what a Python process can use.

    Attributes:
        period: seconds that one measurement covers.
        utilization: a function that says how much of what limits this server is used, 1.0 when all
            of it is (of a connection pool, a GPU); it is called once a period, and clients balance
            by it instead of by processor time.
    """

    period: float = 1.0
    utilization: Callable[[], float] | None = None

    def __post_init__(self) -> None:
        if self.period <= 0:
            raise ConfigError(f"period must be above 0, got {self.period}")


def report_load(
    *,
    application_utilization: float | None = None,
    request_cost: Mapping[str, float] | None = None,
    utilization: Mapping[str, float] | None = None,
    named_metrics: Mapping[str, float] | None = None,
) -> None:
    """Inside a handler: figures for the load report of this one call, over those measured.

    Without effect where no reports are sent, so that handlers can be tested alone.
    """
    own = _own.get()
    if own is not None:
        given = {
            "application_utilization": application_utilization,
            "request_cost": request_cost,
            "utilization": utilization,
            "named_metrics": named_metrics,
        }
        own.update((name, figure) for name, figure in given.items() if figure is not None)


def _trailer(report: LoadReport) -> _Trailer:
    data = report.to_bytes()
    return (CORE_TRAILER, data), (TRAILER, data)


@final
class Load:
    """Measures the load of this process, and adds it to what its handlers answer.

    Args:
        options: how.
        clock: seconds.
        processor: seconds of processor time that this process has used.
    """

    def __init__(
        self,
        options: LoadReports,
        clock: Callable[[], float] = time.monotonic,
        processor: Callable[[], float] = time.process_time,
    ) -> None:
        self._options = options
        self._clock = clock
        self._processor = processor
        self._began, self._used = clock(), processor()
        self._calls = self._failed = 0
        self._lock = threading.Lock()
        self._report = LoadReport()
        self._trailer: _Trailer = ()  # nothing, before something was measured

    # ---- measuring

    def begin(self) -> None:
        """A call has begun."""
        self._calls += 1

    def end(self, *, failed: bool) -> None:
        """A call has ended."""
        self._failed += failed

    def trailer(self, own: Mapping[str, Any]) -> _Trailer:
        """What to add to trailing metadata; `own` are the figures of the call itself."""
        if self._clock() - self._began >= self._options.period:
            with self._lock:  # handlers in threads come here, too
                if self._clock() - self._began >= self._options.period:
                    self._measure()
        if not own:
            return self._trailer
        return _trailer(replace(self._report, **own))

    def _measure(self) -> None:
        now, used, utilization = self._clock(), self._processor(), self._options.utilization
        seconds = now - self._began
        self._report = LoadReport(
            cpu_utilization=(used - self._used) / seconds,
            application_utilization=0.0 if utilization is None else utilization(),
            rps=self._calls / seconds,
            eps=self._failed / seconds,
        )
        self._began, self._used = now, used
        self._calls = self._failed = 0
        self._trailer = _trailer(self._report)

    # ---- reporting

    def around(self, behavior: Behavior, *, streams: bool) -> Behavior:
        """A handler's function whose calls end with a report; `streams`: of responses."""
        if inspect.isasyncgenfunction(behavior):
            return self._around_generator(behavior)
        if inspect.iscoroutinefunction(behavior):
            return self._around_coroutine(behavior)
        return self._around_iterator(behavior) if streams else self._around_function(behavior)

    def _around_coroutine(self, behavior: Behavior) -> Behavior:
        async def reported(request: Any, context: Any) -> Any:
            with _Reported(self, context):
                return await behavior(request, context)

        return reported

    def _around_generator(self, behavior: Behavior) -> Behavior:
        async def reported(request: Any, context: Any) -> Any:
            with _Reported(self, context):
                async with aclosing(behavior(request, context)) as messages:
                    async for message in messages:
                        yield message

        return reported

    def _around_function(self, behavior: Behavior) -> Behavior:
        def reported(request: Any, context: Any) -> Any:
            with _Reported(self, _ThreadContext(context)) as reporting:
                return behavior(request, reporting.context)

        return reported

    def _around_iterator(self, behavior: Behavior) -> Behavior:
        def reported(request: Any, context: Any) -> Any:
            with _Reported(self, _ThreadContext(context)) as reporting:
                yield from behavior(request, reporting.context)

        return reported


@final
class _Reported:
    """A block that is one call: its trailing metadata is given a report."""

    __slots__ = ("_load", "_own", "_set", "context")

    def __init__(self, load: Load, context: Any) -> None:
        self._load = load
        self.context = context

    def __enter__(self) -> _Reported:
        self._load.begin()
        self._own: dict[str, Any] = {}
        _own.set(self._own)
        # At once, too: `abort` sends what is set by then, and does not come back.
        self._set = self._load.trailer(self._own)
        self.context.set_trailing_metadata(self._set)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        code = self.context.code()
        # Cancelled, or closed, is no Exception: the client has left.
        is_raised = kind is not None and issubclass(kind, Exception) and not code
        self._load.end(failed=is_raised or code in _FAILURES)
        others, report = self.context.trailing_metadata(), self._load.trailer(self._own)
        if others is not self._set or report is not self._set:
            others = tuple(pair for pair in others if pair[0] not in _KEYS)
            self.context.set_trailing_metadata((*others, *report))


@final
class _ThreadContext:
    """The context of a handler in a thread: that cannot tell what was set, so this one notes it."""

    def __init__(self, context: Any) -> None:
        self._context = context
        self._code: Any = None
        self._trailing: tuple[Any, ...] = ()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def trailing_metadata(self) -> tuple[Any, ...]:
        return self._trailing

    def set_trailing_metadata(self, metadata: Any) -> None:
        self._trailing = tuple(metadata)
        self._context.set_trailing_metadata(self._trailing)

    def code(self) -> Any:
        return self._code

    def set_code(self, code: Any) -> None:
        self._code = code
        self._context.set_code(code)

    def abort(self, code: Any, *args: Any, **kwargs: Any) -> None:
        self._code = code
        self._context.abort(code, *args, **kwargs)
