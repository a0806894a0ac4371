"""Sticky: a key stays where it is."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, cast, final

from meshkit.balancer.policies.hashing import HashKey, Key, hash64, key_reader
from meshkit.balancer.policies.policy import Clock, N, Node, PickInfo
from meshkit.balancer.policies.ring_hash import Ring, RingHash
from meshkit.fields import Integer, check

__all__ = ["Sticky"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Sticky:
    """Sends calls with the same key where the call before went, as long as that node is ready.

    Right where a server keeps something in memory for a session. The first call goes where
    `ring_hash` would send it, so that clients that know nothing of each other mostly agree, and so
    does a client that was started again. From then on new endpoints take no keys from others. When
    the node is not ready the next call goes on along the ring, and its key stays *there*, since
    that is where the session is now: it does not come back, as with `ring_hash` it would. What is
    remembered is this client's alone.

    Attributes:
        key: as of `RingHash`.
        max_keys: how many keys are remembered, about 200 bytes each; those used longest ago are
            forgotten and begin anew.
    """

    key: Key = ""
    max_keys: Annotated[int, Integer(1)] = 100_000

    def __post_init__(self) -> None:
        check(self)

    def picker(self, rng: random.Random, now: Clock) -> _Homes:  # noqa: ARG002
        """The picker of one client."""
        return _Homes(self.key, self.max_keys, rng)


@final
class _Homes:
    """Where each key is at home: by id of the endpoint, so that what has gone is not held."""

    __slots__ = ("_homes", "_max_keys", "_nodes", "_random", "_ring", "key_of")

    def __init__(self, key: HashKey, max_keys: int, rng: random.Random) -> None:
        sizes = RingHash()
        self._ring = Ring(sizes.min_ring_size, sizes.max_ring_size)
        self.key_of = key_reader(key)
        self._max_keys = max_keys
        self._random = rng.getrandbits
        self._nodes: dict[str, Node] = {}
        self._homes: dict[bytes, str] = {}  # the one used last is the last

    def follow(self, added: Collection[Node], removed: Collection[Node]) -> None:
        """Take note of who comes and goes."""
        self._ring.follow(added, removed)
        for node in removed:
            del self._nodes[node.endpoint.id]
        for node in added:
            self._nodes[node.endpoint.id] = node

    def pick(self, ready: Sequence[N], info: PickInfo) -> N:  # noqa: ARG002 -- told by `follow`
        """Choose the node where the call's key is at home."""
        return cast("N", self._home_of(self.key_of(info)))

    def _home_of(self, key: bytes) -> Any:
        if not key:
            return self._ring.owner(self._random(64))
        node = self._nodes.get(self._homes.pop(key, ""))
        if node is None:
            node = self._ring.owner(hash64(key))
        self._homes[key] = node.endpoint.id
        if len(self._homes) > self._max_keys:
            del self._homes[next(iter(self._homes))]
        return node
