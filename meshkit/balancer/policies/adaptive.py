"""In turn, past those that are clearly worse: the default."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final, final

from meshkit.balancer.policies.policy import Clock, N, Node, PickInfo
from meshkit.balancer.policies.weighted import Rotation
from meshkit.fields import Number, check

__all__ = ["Adaptive"]

_LOOKS: Final = 8  # turns that one call may pass over
_UNKNOWN: Final = 1e6  # seconds: no second call to a node that has not answered the first


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Adaptive:
    """Takes the nodes in turn, by weight, and passes over those that are clearly worse than others.

    A rotation spreads calls over equal servers better than any dice, since the next in turn is the
    one that has had the most time to finish; but it has no eyes. So the node whose turn it is has
    to compare: what it costs is its average latency, failed calls counting as slow ones, times the
    calls that it would then have. It is passed over if that is more than `margin` times what the
    cheapest node known costs. That one is remembered from pick to pick, each of which shows it one
    more at random (Mitzenmacher, Prabhakar and Shah, "Load balancing with memory", FOCS 2002).

    Equal servers differ by chance only, and less than `margin`: there this is `round_robin`. What
    a node costs falls while it is left alone, so it is tried again, by one call, until it does
    well. A new node takes its turns, one call at a time until it has answered.

    Attributes:
        margin: by how many times a node must be worse to be passed over. Less reacts to smaller
            differences, and takes more chance for difference.
    """

    margin: Annotated[float, Number(1)] = 2.0

    def __post_init__(self) -> None:
        check(self)

    def picker(self, rng: random.Random, now: Clock) -> _Adaptive:
        """The picker of one client."""
        return _Adaptive(self.margin, rng, now)


@final
class _Adaptive:
    __slots__ = ("_best", "_margin", "_now", "_random", "_ready", "_rotation")

    def __init__(self, margin: float, rng: random.Random, now: Clock) -> None:
        self._margin = margin
        self._now = now
        self._random = rng.random
        self._rotation = Rotation(rng)
        self._ready: Sequence[Node] = ()
        self._best: Node | None = None  # the cheapest that was met, of those that have answered

    def pick(self, ready: Sequence[N], info: PickInfo) -> N:  # noqa: ARG002
        """Choose the node whose turn it is, unless it is clearly worse than the best."""
        if ready is not self._ready:
            self._ready, self._best = ready, None
        node = self._rotation.turn(ready)
        other = ready[int(self._random() * len(ready))]
        best = self._best
        if other.cost and (best is None or self._cost(other) < self._cost(best)):
            self._best = best = other
        if best is None:
            return node
        limit = self._margin * self._cost(best)
        if self._cost(node) <= limit:
            return node
        return self._elsewhere(ready, node, limit)

    def _elsewhere(self, ready: Sequence[N], first: N, limit: float) -> N:
        """The next in turn that is within `limit`, or the best of those looked at."""
        now = self._now()
        node, best, least = first, first, float("inf")
        for _ in range(_LOOKS):
            cost = self._cost(node) * node.fresh(now)
            if cost <= limit:
                return node
            if cost < least:
                best, least = node, cost
            node = self._rotation.turn(ready)
        return best

    def _cost(self, node: Node) -> float:
        """Seconds until the next call would have its answer."""
        pending = node.pending
        return node.cost * (1 + pending) if node.cost else _UNKNOWN * pending
