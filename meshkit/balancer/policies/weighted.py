"""Nodes in turn or at random, by weight, over a set that changes: nothing is built anew for it."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, Final, TypeAlias, final

from meshkit.balancer.policies.policy import N, Node, id_of

__all__ = ["Draw", "Rotation", "WeightOf", "place_behind", "registry_weight"]

WeightOf: TypeAlias = Callable[[Any], float]
"""The weight of a node; more than 0."""

_LOOKS: Final = range(32)  # nodes that are passed over at most: more would cost too much
_GOLDEN: Final = 0.6180339887498949

registry_weight: Final[WeightOf] = attrgetter("endpoint.weight")
"""The weight that the registry has for a node's endpoint."""


def place_behind(last: Node, ready: Sequence[Node]) -> int:
    """The place in `ready` behind `last`, which may be gone, in order of id; len(ready) at most."""
    return bisect_right(ready, last.endpoint.id, key=id_of)


class _Weights:
    """Nodes have weights, and the greatest is learnt from those that are looked at.

    Too great a value changes nobody's share: all are passed over more often. So it is raised when
    a heavier node is met, and lowered after a while in which none was so heavy.

    Attributes:
        greatest: the greatest weight, or more; 0.0 before the first look.
    """

    __slots__ = ("_lighter", "_met", "_rng", "_weight", "greatest")

    def __init__(self, rng: random.Random, weight: WeightOf = registry_weight) -> None:
        self._rng = rng
        self._weight = weight
        self.greatest = 0.0
        self._met = 0.0  # the greatest since the last node that was as heavy as any
        self._lighter = 0  # nodes met since then

    def _meet_heavy(self, weight: float) -> None:
        self.greatest = weight
        self._met = 0.0
        self._lighter = 0

    def _meet_light(self, weight: float, patience: int) -> float:
        """Take note of a lighter node; the greatest weight, as far as known now."""
        self._met = max(self._met, weight)
        self._lighter += 1
        if self._lighter > patience:
            self._meet_heavy(self._met)
        return self.greatest


@final
class Rotation(_Weights):
    """Gives out the nodes in turn; one of half the greatest weight takes part in half the rounds.

    This is the static stride scheduler of gRFC A58 without a table: whether a node takes part
    follows from its weight, its place and the number of the round. The start is random, or all
    clients of a new deployment would begin with one server. When the set changes the turn goes on
    behind the node that had it last, in order of id.

    One turn passes over 32 nodes at most, so of nodes that weigh less than a 32nd of the heaviest
    a great number together may get more than their share.
    """

    __slots__ = ("_next", "_ready", "_round")

    def __init__(self, rng: random.Random, weight: WeightOf = registry_weight) -> None:
        super().__init__(rng, weight)
        self._ready: Sequence[Node] = ()
        self._next = 0
        self._round = 0

    def turn(self, ready: Sequence[N]) -> N:
        """The node whose turn it is."""
        if ready is not self._ready:
            self._enter(ready)
        for _ in _LOOKS:
            place = self._next
            if place >= len(ready):
                self._round += 1
                place = 0
            self._next = place + 1
            node = ready[place]
            weight = self._weight(node)
            if weight >= self.greatest:
                if self._lighter or weight > self.greatest:
                    self._meet_heavy(weight)
                break
            greatest = self._meet_light(weight, len(ready))
            # As many rounds as are its due, evenly spread, and not the same for all of a weight.
            if (self._round * weight + place * _GOLDEN * greatest) % greatest < weight:
                break
        return node

    def _enter(self, ready: Sequence[Node]) -> None:
        if self._ready:
            self._next = place_behind(self._ready[self._next - 1], ready)
        else:
            self._next = self._rng.randrange(len(ready))
            self.greatest = max(map(self._weight, ready))
        self._ready = ready


@final
class Draw(_Weights):
    """Draws nodes at random: one of twice the weight is twice as likely."""

    __slots__ = ("_random",)

    def __init__(self, rng: random.Random, weight: WeightOf = registry_weight) -> None:
        super().__init__(rng, weight)
        self._random = rng.random

    def place(self, ready: Sequence[Node]) -> int:
        """The place of the node that was drawn; all are in it each time.

        What is drawn is kept with a chance that is its weight, and drawn anew otherwise, 32 times
        at most.
        """
        count = len(ready)
        if not self.greatest:
            self.greatest = max(map(self._weight, ready))
        for _ in _LOOKS:
            place = int(self._random() * count)
            weight = self._weight(ready[place])
            if weight >= self.greatest:
                if self._lighter or weight > self.greatest:
                    self._meet_heavy(weight)
                break
            if self._random() * self._meet_light(weight, 4 * count) < weight:
                break
        return place
