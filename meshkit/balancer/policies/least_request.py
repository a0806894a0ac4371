"""The least busy of a few."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, final

from meshkit.balancer.policies.policy import Clock, N, Node, PickInfo
from meshkit.balancer.policies.weighted import Draw
from meshkit.fields import Integer, Number, check

__all__ = ["LeastRequest"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class LeastRequest:
    """Draws a few nodes and takes the one with the fewest pending calls (gRFC A48).

    A node counts as busy by its pending calls, raised to a power, over its weight, as in Envoy.
    The first node is drawn by weight and wins ties, so that weights hold while nobody is busy; the
    others may be the same one again.

    Attributes:
        choice_count: nodes to draw; more than 10 count as 10.
        active_request_bias: 1.0 weighs pending calls as they are; 0.0 not at all, which leaves the
            weights; more than 1.0 flees the busy faster, where weights differ.
    """

    choice_count: Annotated[int, Integer(2, cap=10)] = 2
    active_request_bias: Annotated[float, Number(0)] = 1.0

    def __post_init__(self) -> None:
        check(self)

    def picker(self, rng: random.Random, now: Clock) -> _LeastBusy:  # noqa: ARG002
        """The picker of one client."""
        return _LeastBusy(self, rng)


@final
class _LeastBusy:
    __slots__ = ("_bias", "_draw", "_others", "_random")

    def __init__(self, policy: LeastRequest, rng: random.Random) -> None:
        self._others = range(policy.choice_count - 1)
        self._bias = policy.active_request_bias
        self._draw = Draw(rng)
        self._random = rng.random

    def pick(self, ready: Sequence[N], info: PickInfo) -> N:  # noqa: ARG002
        """Choose the least busy of the nodes drawn."""
        count = len(ready)
        best = ready[self._draw.place(ready)]
        least = self._busy(best)
        for _ in self._others:
            other = ready[int(self._random() * count)]
            busy = self._busy(other)
            if busy < least:
                best, least = other, busy
        return best

    def _busy(self, node: Node) -> float:
        pending = node.pending
        return float(pending**self._bias / node.endpoint.weight) if pending else 0.0
