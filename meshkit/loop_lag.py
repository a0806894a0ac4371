"""How late the event loop runs: a handler that blocks it holds up the renewal of leases, too.

A task sleeps for a moment and looks how much longer it took. It cannot say who was in the way: when
it runs, that is over.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NoReturn, final

import anyio

from meshkit.events import Emit, LoopStalled

__all__ = ["LoopLag", "LoopLagMonitor"]

_PERIOD: Final = 0.25  # seconds; four wake-ups a second are nothing, and a stall is known that well
_WINDOW: Final = 60.0


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class LoopLag:
    """How many seconds late the event loop was: the last time, and the worst of the last minute."""

    last: float
    worst: float


@final
class LoopLagMonitor:
    """Measures the lag of the running loop, as long as `run` runs, and tells of stalls.

    Args:
        emit: told of stalls.
        renewal: seconds between renewals of a lease; a lag from then on is a stall.
        announces: whether there is a lease to renew.
        clock: that of the loop, in seconds.
        wall: the time of day, in seconds.
    """

    def __init__(
        self,
        emit: Emit,
        *,
        renewal: float,
        announces: Callable[[], bool],
        clock: Callable[[], float],
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._emit = emit
        self._renewal = renewal
        self._announces = announces
        self._clock = clock
        self._wall = wall
        self._period = min(_PERIOD, renewal / 4)
        self._lags: deque[tuple[float, float]] = deque([(clock(), 0.0)])  # when, and how much

    def status(self) -> LoopLag:
        """The lag now and in the last minute; good in any thread."""
        lags = [lag for _, lag in tuple(self._lags)]
        return LoopLag(last=lags[-1], worst=max(lags))

    @property
    def last(self) -> float:
        """The lag now, in seconds."""
        return self._lags[-1][1]

    async def run(self) -> NoReturn:
        """Measure, for ever."""
        while True:
            due = self._clock() + self._period
            await anyio.sleep(self._period)
            now = self._clock()
            self._note(now, max(0.0, now - due))

    def _note(self, now: float, lag: float) -> None:
        self._lags.append((now, lag))
        while self._lags[0][0] < now - _WINDOW:
            self._lags.popleft()
        if lag >= self._renewal:
            missed = int(lag / self._renewal) if self._announces() else 0
            ended = self._wall()
            self._emit(LoopStalled(lag, ended - lag, ended, missed))
