"""SIGTERM and SIGINT, where they are free to be taken.

A host that runs our loop (uvicorn, aiohttp) has handlers of its own; replacing them makes it deaf
and it hangs. So a signal is taken only if nobody has it, and given back as it was.
"""

from __future__ import annotations

import asyncio
import functools
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Final, final

__all__ = ["Signals"]

_NUMBERS: Final = (signal.SIGTERM, signal.SIGINT)


@final
class Signals:
    """Calls `react` in the event loop for each SIGTERM and SIGINT, from `take` to `give_back`."""

    def __init__(self, react: Callable[[], None]) -> None:
        self._react = react
        self._before: dict[signal.Signals, Any] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    def take(self) -> None:
        """Take the signals that are free; none outside the main thread. Twice is fine."""
        if threading.current_thread() is not threading.main_thread():
            return  # Python delivers signals there only
        self._loop = asyncio.get_running_loop()
        for number in _NUMBERS:
            if _is_free(number):
                self._before[number] = signal.signal(number, self._deliver)

    def give_back(self) -> None:
        """Put back what was there before, unless somebody else has taken it since."""
        while self._before:
            number, handler = self._before.popitem()
            if signal.getsignal(number) == self._deliver:
                signal.signal(number, handler)

    def _deliver(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._react)  # wakes a loop that sleeps


def _is_free(number: signal.Signals) -> bool:
    handler = signal.getsignal(number)
    if number == signal.SIGINT and isinstance(handler, functools.partial):
        # asyncio.run's own way to cancel the main task
        return isinstance(getattr(handler.func, "__self__", None), asyncio.Runner)
    return handler in (signal.SIG_DFL, signal.default_int_handler)
