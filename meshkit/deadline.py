"""How long whoever called us still waits: calls that a handler makes get no more time than that.

What is done after it helps nobody (https://grpc.io/docs/guides/deadlines/#deadline-propagation).
The deadline lives in the context of the handler, so tasks that it starts inherit it, and so does
what it hands to a loop in another thread.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final, NamedTuple

__all__ = ["no_deadline", "overdue", "serve_until", "time_remaining"]


class _Deadline(NamedTuple):
    at: float  # on time.monotonic: loops of several threads have it in common
    method: str


_current: Final[ContextVar[_Deadline | None]] = ContextVar("meshkit_deadline", default=None)
_get: Final = _current.get  # each call of a client asks


def serve_until(method: str, seconds: float | None) -> None:
    """From now on this context serves a call that has `seconds` left; None: no limit."""
    if seconds is not None:
        _current.set(_Deadline(time.monotonic() + seconds, method))
    elif _get() is not None:
        _current.set(None)


def time_remaining() -> float | None:
    """Inside a handler: seconds until whoever called gives up, negative when they have.

    None if they wait for ever, in a `no_deadline` block, and outside a call of a meshkit server.
    """
    deadline = _get()
    return None if deadline is None else deadline.at - time.monotonic()


def overdue() -> str:
    """Why a call is not sent when no time remains: for people."""
    deadline = _get()
    if deadline is None:
        return "Deadline Exceeded"
    late = time.monotonic() - deadline.at
    return (
        f"Deadline Exceeded before it was sent: {deadline.method}, which is being served here, had "
        f"a deadline, and it passed {late:.3f} s ago. Next: work that may outlive the call that "
        "began it belongs in a `with meshkit.no_deadline():` block."
    )


@contextmanager
def no_deadline() -> Iterator[None]:
    """A block whose calls, and tasks, do not inherit the deadline of the call that is served.

    For work that shall be finished though nobody waits for it any more:

    ```python
    with meshkit.no_deadline():
        tasks.create_task(self.audit.Record(entry))
    ```
    """
    token = _current.set(None)
    try:
        yield
    finally:
        _current.reset(token)
