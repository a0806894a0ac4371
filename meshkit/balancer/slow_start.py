"""Slow start: a server that has just begun to run gets fewer calls than its share."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Annotated, Generic, TypeVar, final

from meshkit.balancer.policies.policy import Node
from meshkit.fields import Number, Seconds, check

__all__ = ["SlowStart", "Warming"]

N = TypeVar("N", bound=Node)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class SlowStart:
    """How a new endpoint grows into its share of the calls (Envoy's slow start).

    A Python server that has just started imports on its first calls, fills its pools and caches,
    and is slow meanwhile.

    Attributes:
        window: seconds until it has its full share; 0.0: at once.
        aggression: 1.0 grows evenly; more grows faster at the beginning.
        min_weight_percent: the share to begin with, in percent of the full one.
    """

    window: Seconds = 10.0
    aggression: Annotated[float, Number(above=0)] = 1.0
    min_weight_percent: Annotated[float, Number(0, 100)] = 10.0

    def __post_init__(self) -> None:
        check(self)

    def share(self, age: float) -> float:
        """What part of its full share a node gets, `age` seconds after it became ready."""
        if age >= self.window:
            return 1.0
        return max(self.min_weight_percent / 100, math.pow(age / self.window, 1 / self.aggression))


@final
class Warming(Generic[N]):
    """The nodes that are still growing into their share.

    Those that were there from the start are not: a client that starts finds a warm fleet. Nor are
    those whose connection was lost and is back.
    """

    __slots__ = ("_awaited", "_ready_at", "_rng", "slow_start")

    def __init__(self, slow_start: SlowStart, rng: random.Random) -> None:
        self.slow_start = slow_start
        self._rng = rng
        self._awaited: set[N] = set()
        self._ready_at: dict[N, float] = {}

    def __bool__(self) -> bool:
        return bool(self._ready_at)

    def expect(self, node: N) -> None:
        """A node is new, and will be cold when it is ready."""
        self._awaited.add(node)

    def begin(self, node: N, now: float) -> None:
        """A node is ready, maybe not for the first time."""
        if node in self._awaited:
            self._awaited.remove(node)
            self._ready_at[node] = now

    def forget(self, node: N) -> None:
        """Drop what is known of a node that is no longer part of the service."""
        self._awaited.discard(node)
        self._ready_at.pop(node, None)

    def admits(self, node: N, now: float) -> bool:
        """Whether `node` may have the call that is its turn; by chance, as its share is."""
        ready_at = self._ready_at.get(node)
        if ready_at is None:
            return True
        share = self.slow_start.share(now - ready_at)
        if share >= 1.0:
            del self._ready_at[node]
        return self._rng.random() < share
