"""The power of two choices: by calls under way, or by latency."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

from meshkit.balancer.load import PENALTY
from meshkit.balancer.policies.policy import Clock, N, Node, PickInfo
from meshkit.balancer.policies.weighted import Draw

__all__ = ["PeakEwma", "PowerOfTwo"]

_UNKNOWN: Final = 1e6  # seconds: no second call to a node that has not answered the first


@final
@dataclass(frozen=True, slots=True)
class PowerOfTwo:
    """Draws two different nodes and takes the one with fewer pending calls.

    Two choices are enough to keep the longest queue exponentially shorter than one random choice
    does, and unlike "the least loaded of all" clients with the same stale view do not all run to
    the same server (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", IEEE
    TPDS 12(10), 2001). The first node is drawn by weight and wins ties, and pending calls count by
    weight: a node of twice the weight gets twice the calls, and may have twice as many pending.
    """

    def picker(self, rng: random.Random, now: Clock) -> _LessPending:  # noqa: ARG002
        """The picker of one client."""
        return _LessPending(rng)


@final
class _LessPending:
    __slots__ = ("_draw", "_random")

    def __init__(self, rng: random.Random) -> None:
        self._draw = Draw(rng)
        self._random = rng.random

    def pick(self, ready: Sequence[N], info: PickInfo) -> N:  # noqa: ARG002
        """Choose the less busy of two nodes drawn at random."""
        others = len(ready) - 1
        if not others:
            return ready[0]
        first = self._draw.place(ready)
        second = int(self._random() * others)
        if second >= first:  # step over `first`
            second += 1
        one, other = ready[first], ready[second]
        fits = one.pending * other.endpoint.weight <= other.pending * one.endpoint.weight
        return one if fits else other


@final
@dataclass(frozen=True, slots=True)
class PeakEwma:
    """Draws two different nodes and takes the one that promises to answer sooner.

    What a node promises is its peak latency times the calls that it would then have: a latency
    that rises at once and falls slowly, with a time constant of 10 s, and falls while the node is
    left alone, so that it is tried again (Finagle's `P2CPeakEwma`, Linkerd). Failed calls count as
    slow ones. A node that has not answered yet gets one call at a time. Weights other than 0 are
    not looked at.
    """

    def picker(self, rng: random.Random, now: Clock) -> _Sooner:
        """The picker of one client."""
        return _Sooner(rng, now)


@final
class _Sooner:
    __slots__ = ("_now", "_random")

    def __init__(self, rng: random.Random, now: Clock) -> None:
        self._random = rng.random
        self._now = now

    def pick(self, ready: Sequence[N], info: PickInfo) -> N:  # noqa: ARG002
        """Choose the cheaper of two nodes drawn at random."""
        count = len(ready)
        if count == 1:
            return ready[0]
        # One draw for both: every ordered pair is equally likely, so at a tie the first is fair.
        first, second = divmod(int(self._random() * (count * (count - 1))), count - 1)
        if second >= first:  # step over `first`
            second += 1
        one, other = ready[first], ready[second]
        now = self._now()
        return one if _promise(one, now) <= _promise(other, now) else other


def _promise(node: Node, now: float) -> float:
    """Seconds until the next call would have its answer, by the worst that was seen."""
    if not node.peak:
        return _UNKNOWN * node.pending
    seconds = node.peak + PENALTY * (1.0 - node.success)
    return seconds * node.fresh(now) * (node.pending + 1)
