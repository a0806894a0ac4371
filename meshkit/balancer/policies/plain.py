"""Policies that know nothing of load: any node, or always the same one."""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from meshkit.balancer.policies.policy import Clock, N, Node, PickInfo, id_of
from meshkit.balancer.policies.weighted import Draw

__all__ = ["PickFirst", "Random"]


@final
@dataclass(frozen=True, slots=True)
class Random:
    """Draws any node, one of twice the weight twice as often; no call depends on those before."""

    def picker(self, rng: random.Random, now: Clock) -> _Any:  # noqa: ARG002
        """The picker of one client."""
        return _Any(rng)


@final
class _Any:
    __slots__ = ("_draw",)

    def __init__(self, rng: random.Random) -> None:
        self._draw = Draw(rng)

    def pick(self, ready: Sequence[N], info: PickInfo) -> N:  # noqa: ARG002
        """Choose any node."""
        return ready[self._draw.place(ready)]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class PickFirst:
    """Takes the first node that is ready, and stays with it as long as it is (gRFC A62).

    All others are spares. Connections to them are held nevertheless: a channel of meshkit connects
    to every endpoint that it knows.

    Attributes:
        shuffle_address_list: begin with a random node, another one in each client; otherwise all
            clients go to the one with the smallest id.
    """

    shuffle_address_list: bool = False

    def picker(self, rng: random.Random, now: Clock) -> _First:  # noqa: ARG002
        """The picker of one client."""
        return _First(rng if self.shuffle_address_list else None)


@final
class _First:
    __slots__ = ("_place", "_ready", "_rng")

    def __init__(self, rng: random.Random | None) -> None:
        self._rng = rng
        self._ready: Sequence[Node] = ()
        self._place = 0

    def pick(self, ready: Sequence[N], info: PickInfo) -> N:  # noqa: ARG002
        """Choose the same node as before, if it is still there."""
        if ready is not self._ready:
            self._place = self._place_in(ready)
            self._ready = ready
        return ready[self._place]

    def _place_in(self, ready: Sequence[Node]) -> int:
        if self._ready:
            before = self._ready[self._place]
            place = bisect_left(ready, before.endpoint.id, key=id_of)
            if place < len(ready) and ready[place] is before:
                return place
        return self._rng.randrange(len(ready)) if self._rng is not None else 0
