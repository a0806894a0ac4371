"""Ring hash: the same key to the same server, in every client, with few exceptions."""

from __future__ import annotations

import random
from array import array
from bisect import bisect_left
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import chain, cycle, pairwise
from typing import Annotated, Final, TypeAlias, final

from meshkit.balancer.policies.bounded_load import bounded
from meshkit.balancer.policies.hashing import (
    BalanceFactor,
    HashPicker,
    Key,
    numbers_of,
    place_of,
)
from meshkit.balancer.policies.policy import Clock, Node, id_of
from meshkit.errors import ConfigError
from meshkit.fields import Integer, check

__all__ = ["Ring", "RingHash"]

_MOST_POINTS: Final = 8_388_608  # as xDS has it
_CHUNK: Final = 64  # points on average, at most, when all were just cut
_FEWEST: Final = 8
_MOST: Final = 256

RingSize: TypeAlias = Annotated[int, Integer(1, cap=_MOST_POINTS)]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RingHash:
    """Sends calls with the same key to the same node, as long as it is ready (gRFC A42, A76).

    Each endpoint has as many points on a ring of hashes as its weight says, and a key belongs to
    the next point. Where an endpoint leaves, each of its keys goes to the next point's, and
    back when it returns; all others stay. A new one takes its share, evenly from all. In gRPC the
    points of each endpoint depend on all others; here they do not, so that one change among ten
    thousand touches only its own, and no other key moves.

    An endpoint's points come from the `hash_key` of its metadata, else from its address.

    Attributes:
        key: the header whose value is the key; several
            values are joined with a comma. Or a function of the call, which returns text, bytes or
            None. A call without a key goes anywhere.
        min_ring_size: where all weights together are less, each endpoint has twice, four times...
            as many points.
        max_ring_size: where they are more, each has half, a quarter..., but always one. A point
            takes 16 bytes. With 100 points the shares of equal endpoints differ by 10 %, with 25
            by 20 %.
        hash_balance_factor: the bound on load: when a node has more than so many percent of the
            mean of calls under way, further calls go to the next one on the ring. 100 or more;
            125 to 200 is usual. None: no bound.
    """

    key: Key = ""
    min_ring_size: RingSize = 1024
    max_ring_size: RingSize = 262_144
    hash_balance_factor: BalanceFactor | None = None

    def __post_init__(self) -> None:
        check(self)
        if self.min_ring_size > self.max_ring_size:
            raise ConfigError(
                f"min_ring_size must not be above max_ring_size, got {self.min_ring_size} "
                f"and {self.max_ring_size}"
            )

    def picker(self, rng: random.Random, now: Clock) -> HashPicker:  # noqa: ARG002
        """The picker of one client."""
        ring = Ring(self.min_ring_size, self.max_ring_size)
        return HashPicker(bounded(ring, self.hash_balance_factor), self.key, rng)


@final
class Ring:
    """Points on a circle of 2**64 places, each of a node; a place belongs to the next point.

    Kept in chunks of some dozen points, so that it takes little to put one in. All are of the same
    width, since points are spread evenly: so the chunk of a place is found without a search.

    Attributes:
        weight: of all nodes together.
    """

    def __init__(self, min_size: int, max_size: int) -> None:
        self.weight = 0
        self._min_size = min_size
        self._max_size = max_size
        self._placed: dict[Node, tuple[str, int]] = {}  # by what key and weight
        self._clear(0)

    def _clear(self, doublings: int) -> None:
        self._doublings = doublings  # of the weights; less than 0: halvings
        self._count = 0
        self._shift = 64  # from a place to its chunk
        self._points = [array("Q")]
        self._owners: list[list[Node]] = [[]]

    def __len__(self) -> int:
        """How many points there are."""
        return self._count

    # ---- whom a place belongs to

    def owner(self, place: int) -> Node:
        """The node of the next point."""
        chunk = place >> self._shift
        at = bisect_left(self._points[chunk], place)
        owners = self._owners[chunk]
        return owners[at] if at < len(owners) else next(self.walk(place))

    def walk(self, place: int) -> Iterator[Node]:
        """The nodes of all points from the next one on, round and round."""
        chunk = place >> self._shift
        at = bisect_left(self._points[chunk], place)
        chunks = cycle(chain(range(chunk + 1, len(self._points)), range(chunk + 1)))
        return chain(
            self._owners[chunk][at:],
            chain.from_iterable(self._owners[chunk] for chunk in chunks),
        )

    # ---- nodes come and go

    def follow(self, added: Collection[Node], removed: Collection[Node]) -> None:
        """Take points out and put others in; all anew only where their number has to change."""
        gone = [(node, *self._placed.pop(node)) for node in removed]
        come = [(node, place_of(node.endpoint), node.endpoint.weight) for node in added]
        self._placed |= {node: (key, weight) for node, key, weight in come}
        self.weight += sum(weight for *_, weight in come) - sum(weight for *_, weight in gone)
        if (doublings := self._needed()) != self._doublings:
            self._clear(doublings)
            gone, come = [], [(node, *placed) for node, placed in self._placed.items()]
        for node, key, weight in gone:
            self._take_out(node, self._points_of(key, weight))
        for node, key, weight in come:
            self._put_in(node, self._points_of(key, weight))

    def _needed(self) -> int:
        """How often weights have to be doubled for a ring that is large enough, and not too large.

        Nothing but what there is now decides, so that all clients agree.
        """
        if not self.weight:
            return 0
        enough = -(-self._min_size // self.weight)
        too_much = -(-self.weight // self._max_size)
        return (enough - 1).bit_length() or -(too_much - 1).bit_length()

    def _points_of(self, key: str, weight: int) -> array[int]:
        doublings = self._doublings
        count = weight << doublings if doublings >= 0 else weight >> -doublings
        return numbers_of(key, max(1, count))

    def _put_in(self, node: Node, points: Collection[int]) -> None:
        self._count += len(points)
        self._fit()
        for point in points:
            chunk = point >> self._shift
            known, owners = self._points[chunk], self._owners[chunk]
            at = bisect_left(known, point)
            # Two with the same key, as while one replaces the other: all clients take the same.
            while at < len(known) and known[at] == point and id_of(owners[at]) < id_of(node):
                at += 1
            known.insert(at, point)
            owners.insert(at, node)

    def _take_out(self, node: Node, points: Collection[int]) -> None:
        self._count -= len(points)
        self._fit()
        for point in points:
            chunk = point >> self._shift
            known, owners = self._points[chunk], self._owners[chunk]
            at = owners.index(node, bisect_left(known, point))
            del known[at], owners[at]

    def _fit(self) -> None:
        """Cut all chunks anew where they have become too long or too short: rarely."""
        if _FEWEST <= self._count / len(self._points) <= _MOST:
            return
        bits = (self._count // _CHUNK).bit_length()
        self._shift = 64 - bits
        points = array("Q", b"".join(self._points))
        owners = list(chain.from_iterable(self._owners))
        starts = (bisect_left(points, chunk << self._shift) for chunk in range(1 << bits))
        parts = [slice(*ends) for ends in pairwise(chain(starts, [len(points)]))]
        self._points = [points[part] for part in parts]
        self._owners = [owners[part] for part in parts]
