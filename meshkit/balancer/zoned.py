"""A policy in each zone, and a choice of the zone before."""

from __future__ import annotations

import random
from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from itertools import accumulate
from typing import Any, Final, Generic, TypeVar, final

from meshkit.balancer.locality import Capacity, ZoneAware
from meshkit.balancer.policies.hashing import hash64
from meshkit.balancer.policies.policy import ByKey, Clock, Node, Picker, PickInfo, Policy, id_of
from meshkit.balancer.shown import Shown
from meshkit.endpoint import EndpointSet

__all__ = ["ZonePicker", "zone_picker"]

N = TypeVar("N", bound=Node)

_READY: Final = ("ready",)
_WHOLE: Final = ""  # the pool of all nodes, while zones are not told apart


def zone_picker(
    policy: Policy, zone: str, zone_aware: ZoneAware, rng: random.Random, now: Clock
) -> ZonePicker:
    """The picker of a client in `zone`: another one of `policy` for each zone."""

    def make() -> Picker:
        return policy.picker(rng, now)

    first = make()
    if isinstance(first, ByKey):
        return _ZonePickerByKey(make, zone, zone_aware, rng.random, first.key_of)
    return ZonePicker(make, zone, zone_aware, rng.random)


class ZonePicker:
    """Draws a zone by its share, and lets the policy of that zone choose.

    Args:
        make: makes the picker of one zone.
        zone: the client's own.
        zone_aware: the rules.
        draw: a number from 0.0 to 1.0, 1.0 excluded.
    """

    def __init__(
        self,
        make: Callable[[], Picker],
        zone: str,
        zone_aware: ZoneAware,
        draw: Callable[[], float],
    ) -> None:
        self._make = make
        self._zone = zone
        self._zone_aware = zone_aware
        self._random = draw
        self._fleet = Capacity()
        self._connected = Capacity()
        self._placed: dict[Node, tuple[str, int]] = {}  # zone and weight
        self._ready: Counter[str] = Counter()  # weights
        self._pools: dict[str, _Pool[Any]] = {}
        self._is_on = True
        self._cuts: list[float] = []  # empty: to be made anew
        self._drawn: list[_Pool[Any]] = []

    def know(self, fleet: EndpointSet, connected: EndpointSet) -> None:
        """Take note of all endpoints of the service, and of those that we connect to."""
        self._fleet.know(fleet)
        self._connected.know(connected)
        self._cuts = []
        is_on = self._fleet.count >= self._zone_aware.min_cluster_size
        if is_on != self._is_on:
            self._is_on = is_on
            self._pools = {}
            for node in self._placed:
                self._pool_of(node).put_in(node)

    def follow(self, added: Collection[Node], removed: Collection[Node]) -> None:
        """Take note of who comes and goes."""
        self._cuts = []
        for node in removed:
            self._pool_of(node).take_out(node)
            zone, weight = self._placed.pop(node)
            self._ready[zone] -= weight
        for node in added:
            zone, weight = self._placed[node] = (node.endpoint.zone, node.endpoint.weight)
            self._ready[zone] += weight
            self._pool_of(node).put_in(node)

    def pick(self, ready: Sequence[N], info: PickInfo) -> N:  # noqa: ARG002 -- told by `follow`
        """Choose the zone, and there a node."""
        cuts = self._cuts or self._cut()
        pool = self._drawn[0 if len(cuts) == 1 else bisect_right(cuts, self._draw(info))]
        return pool.pick(info)  # type: ignore[no-any-return]

    def shares(self) -> dict[str, float]:
        """Which share of the calls each zone gets; nothing while zones are not told apart."""
        if not self._is_on:
            return {}
        health = {
            zone: min(1.0, self._ready[zone] / weight)
            for zone, weight in self._connected.weights.items()
        }
        ready = +self._ready
        shares = self._zone_aware.shares(self._zone, self._fleet.weights, health)
        # None of those that should take calls is there: those that drain may have to.
        return shares or {zone: weight / ready.total() for zone, weight in ready.items()}

    def _draw(self, info: PickInfo) -> float:  # noqa: ARG002
        return self._random()

    def _cut(self) -> list[float]:
        shares = self.shares() or {_WHOLE: 1.0}
        self._drawn = [self._pools[zone] for zone in shares]
        self._cuts = list(accumulate(shares.values()))
        self._cuts[-1] = 1.0  # for sure
        return self._cuts

    def _pool_of(self, node: Node) -> _Pool[Any]:
        zone = self._placed[node][0] if self._is_on else _WHOLE
        if zone not in self._pools:
            self._pools[zone] = _Pool(self._make())
        return self._pools[zone]


@final
class _ZonePickerByKey(ZonePicker):
    """The same for a policy that goes by a key: the key decides on the zone, too."""

    def __init__(
        self,
        make: Callable[[], Picker],
        zone: str,
        zone_aware: ZoneAware,
        draw: Callable[[], float],
        key_of: Callable[[PickInfo], bytes],
    ) -> None:
        super().__init__(make, zone, zone_aware, draw)
        self.key_of = key_of

    def _draw(self, info: PickInfo) -> float:
        key = self.key_of(info)
        return (hash64(b"zone " + key) >> 11) / 2**53 if key else self._random()


@final
class _Pool(Generic[N]):
    """The ready nodes of one zone, and their picker."""

    def __init__(self, picker: Picker) -> None:
        self._picker = picker
        self._shown: Shown[N] = Shown(picker)
        self._nodes: list[N] = []
        self._ready: tuple[N, ...] = ()  # empty: none, or to be made anew

    def put_in(self, node: N) -> None:
        """A node is ready."""
        insort(self._nodes, node, key=id_of)
        self._shown.add(node, *_READY)
        self._ready = ()

    def take_out(self, node: N) -> None:
        """A node is not ready any more."""
        del self._nodes[bisect_left(self._nodes, node.endpoint.id, key=id_of)]
        self._shown.remove(node, *_READY)
        self._ready = ()

    def pick(self, info: PickInfo) -> N:
        """Choose one of them."""
        ready = self._ready = self._ready or self._shown.update(self._nodes, _READY)
        return self._picker.pick(ready, info)
