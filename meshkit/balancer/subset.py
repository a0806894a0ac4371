"""Subsets: of a large fleet each client connects to a few, and all of them are used alike."""

from __future__ import annotations

import random
from bisect import bisect_left, insort
from dataclasses import dataclass
from hashlib import blake2b
from typing import Annotated, Final, TypeAlias, final

from meshkit.balancer.policies.hashing import place_of
from meshkit.endpoint import Endpoint, EndpointSet, State
from meshkit.fields import Integer, check

__all__ = ["Subset", "Subsetting"]

Rank: TypeAlias = tuple[int, int, str]

_SERVING: Final = 0
_DRAINING: Final = 1
_PARKED: Final = 2


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Subsetting:
    """To how many endpoints each client connects (gRFC A68).

    Attributes:
        subset_size: how many, each client to others. In a client with a zone, so many of that
            zone, and so many of others.
    """

    subset_size: Annotated[int, Integer(1)]

    def __post_init__(self) -> None:
        check(self)


@final
class Subset:
    """Chooses the endpoints of one client by rendezvous hashing (gRFC A68).

    Each client ranks all endpoints by a hash of its own seed and their address, and takes the
    first ones. Where one endpoint comes or goes the ranks of all others stay, so a client makes
    and closes one connection at most; most clients none. Which endpoints a client has is a matter
    of chance, so with many clients all have about as many of them: `docs/explanation/subsetting.md`
    has the numbers.

    Those that will take calls come before those that drain, and these before those of weight 0.

    Args:
        size: how many to begin with; all, if there are not more.
        zone: where the client is; then it takes so many of that zone, and so many of others. ""
            does not tell zones apart.
        rng: the die for the seed.

    Attributes:
        size: how many; another one is of effect with the next set.
    """

    def __init__(self, size: int, zone: str, rng: random.Random) -> None:
        self.size = size
        self._zone = zone
        self._seed = rng.randbytes(16)
        self._known: EndpointSet | None = None
        self._chosen: EndpointSet | None = None
        # Of the own zone, and of others; in order.
        self._ranks: dict[bool, list[Rank]] = {True: [], False: []}
        self._placed: dict[str, tuple[bool, Rank]] = {}

    def of(self, endpoints: EndpointSet) -> EndpointSet:
        """Those of `endpoints` to connect to."""
        delta = endpoints.since(self._known)
        for endpoint in (*delta.removed, *delta.changed):
            near, rank = self._placed.pop(endpoint.id)
            ranks = self._ranks[near]
            del ranks[bisect_left(ranks, rank)]
        for endpoint in (*delta.added, *delta.changed):
            near, rank = not self._zone or endpoint.zone == self._zone, self._rank(endpoint)
            self._placed[endpoint.id] = (near, rank)
            insort(self._ranks[near], rank)
        self._known = endpoints
        self._chosen = self._choose(endpoints, self._chosen or EndpointSet(endpoints.service))
        return self._chosen

    def _choose(self, endpoints: EndpointSet, before: EndpointSet) -> EndpointSet:
        first = (rank for ranks in self._ranks.values() for rank in ranks[: self.size])
        chosen = {endpoint_id: endpoints.by_id[endpoint_id] for *_, endpoint_id in first}
        drop = [endpoint_id for endpoint_id in before.by_id if endpoint_id not in chosen]
        put = {i: e for i, e in chosen.items() if before.by_id.get(i) != e}
        return before.with_changes(put, drop, revision=endpoints.revision)

    def _rank(self, endpoint: Endpoint) -> Rank:
        use = _DRAINING if endpoint.state is State.DRAINING else _SERVING
        digest = blake2b(place_of(endpoint).encode(), digest_size=8, key=self._seed).digest()
        score = int.from_bytes(digest, "little")
        return _PARKED if endpoint.weight == 0 else use, score, endpoint.id
