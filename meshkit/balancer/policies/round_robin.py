"""In turn."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from meshkit.balancer.policies.policy import Clock, N, Node, PickInfo, id_of

__all__ = ["RoundRobin"]


@final
@dataclass(frozen=True, slots=True)
class RoundRobin:
    """Takes the nodes in turn: exactly even over a set that stays the same.

    The start is random, or all clients of a new deployment would begin with one server. When the
    set changes the turn goes on behind the endpoint that was picked last, in order of id: nobody
    who stays is skipped or picked twice in a round. Weights other than 0 are not looked at.
    """

    def picker(self, rng: random.Random, now: Clock) -> _Turn:  # noqa: ARG002
        """The picker of one client."""
        return _Turn(rng)


@final
class _Turn:
    __slots__ = ("_next", "_ready", "_rng")

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._ready: Sequence[Node] = ()
        self._next = 0

    def pick(self, ready: Sequence[N], info: PickInfo) -> N:  # noqa: ARG002
        """Choose the node whose turn it is."""
        if ready is not self._ready:
            self._next = self._turn_in(ready)
            self._ready = ready
        node = ready[self._next]
        self._next = (self._next + 1) % len(ready)
        return node

    def _turn_in(self, ready: Sequence[Node]) -> int:
        if not self._ready:
            return self._rng.randrange(len(ready))
        last = self._ready[self._next - 1]
        return bisect_right(ready, last.endpoint.id, key=id_of) % len(ready)
