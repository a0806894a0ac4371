"""A quantile of latencies, as they are now: pure, one number of memory."""

from __future__ import annotations

from typing import Final, final

__all__ = ["LatencyQuantile"]

_STEP: Final = 0.05  # how far one latency moves the estimate, as a share of it
_LEAST: Final = 1e-6  # seconds


@final
class LatencyQuantile:
    """Follows the latency that a given share of calls stays under.

    Each latency above the estimate lifts it by a share of itself and each one below lowers it, in
    such steps that they cancel out at the quantile (DUMIQE: Yazidi and Hammer, "Multiplicative
    Update Methods for Incremental Quantile Estimation", IEEE Transactions on Cybernetics 49(3),
    2019). Only comparisons count, so a call that was given up can be one: it took *longer than*.
    It forgets at the same pace: at the 95th percentile it falls by half within 277 calls.

    Args:
        share: of calls that stay under it, between 0.0 and 1.0.
    """

    __slots__ = ("_down", "_missing", "_up", "_value")

    def __init__(self, share: float) -> None:
        if not 0 < share < 1:
            raise ValueError(f"share must be between 0 and 1, got {share}")
        self._up = 1.0 + _STEP * share
        self._down = 1.0 - _STEP * (1.0 - share)
        self._missing = round(1.0 / (1.0 - share))
        self._value = _LEAST

    @property
    def value(self) -> float | None:
        """Seconds; None until as many calls are known as one beyond it is to be expected in."""
        return None if self._missing > 0 else self._value

    def add(self, seconds: float) -> None:
        """Count a call that took so long."""
        if self._missing > 0:  # begin with the slowest: hedges would rather be too late
            self._missing -= 1
            self._value = max(self._value, seconds)
        elif seconds > self._value:
            self._value *= self._up
        else:
            self._value = max(_LEAST, self._value * self._down)

    def add_longer_than(self, seconds: float) -> None:
        """Count a call that was given up after so long; it tells something if that is beyond."""
        if self._missing <= 0 and seconds > self._value:
            self._value *= self._up
