"""Waits that grow, with full jitter."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

__all__ = ["Backoff"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Delays between tries: drawn from [0, ceiling], the ceiling growing from `first` to `limit`.

    Full jitter spreads a herd best (AWS Architecture Blog, "Exponential Backoff And Jitter", 2015).

    Attributes:
        first: the first ceiling, in seconds.
        limit: the highest ceiling, in seconds.
        factor: how much the ceiling grows with each try.
    """

    first: float = 0.1
    limit: float = 3.0
    factor: float = 2.0

    def __post_init__(self) -> None:
        if not 0 < self.first <= self.limit:
            raise ValueError(f"need 0 < first <= limit, got {self.first} and {self.limit}")
        if self.factor < 1:
            raise ValueError(f"need factor >= 1, got {self.factor}")

    def delays(self, rng: random.Random) -> Iterator[float]:
        """Endless delays in seconds; start a new iterator after a success."""
        ceiling = self.first
        while True:
            yield rng.uniform(0.0, ceiling)
            ceiling = min(self.limit, ceiling * self.factor)
