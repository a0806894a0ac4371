"""The power of two choices."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from meshkit.balancer.policies.policy import Clock, N, PickInfo

__all__ = ["PowerOfTwo"]


@final
@dataclass(frozen=True, slots=True)
class PowerOfTwo:
    """Draws two different nodes and takes the one with fewer pending calls.

    Two choices are enough to keep the longest queue exponentially shorter than one random choice
    does, and unlike "the least loaded of all" clients with the same stale view do not all run to
    the same server (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", IEEE
    TPDS 12(10), 2001). Weights other than 0 are not looked at: compared at an equal number of
    pending calls, they would leave the lighter node without any.
    """

    def picker(self, rng: random.Random, now: Clock) -> _LessPending:  # noqa: ARG002
        """The picker of one client."""
        return _LessPending(rng)


@final
class _LessPending:
    __slots__ = ("_random",)

    def __init__(self, rng: random.Random) -> None:
        self._random = rng.random

    def pick(self, ready: Sequence[N], info: PickInfo) -> N:  # noqa: ARG002
        """Choose the less busy of two nodes drawn at random."""
        count = len(ready)
        if count == 1:
            return ready[0]
        # One draw for both: every ordered pair is equally likely, so at a tie the first is fair.
        first, second = divmod(int(self._random() * (count * (count - 1))), count - 1)
        if second >= first:  # step over `first`
            second += 1
        one, other = ready[first], ready[second]
        return one if one.pending <= other.pending else other
