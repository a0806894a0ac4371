"""Policies: which of the ready nodes takes the next call.

A picker knows neither connections nor registries; it sees nodes and a die that it was given.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, Protocol, TypeAlias, TypeVar, final

from meshkit.endpoint import Endpoint
from meshkit.errors import ConfigError

__all__ = ["Node", "Picker", "PickerFactory", "PowerOfTwo", "RoundRobin", "picker_named"]


class Node(Protocol):
    """What balancing needs to know of one endpoint's connection.

    Make `pending` a plain attribute: it is read on the path of every call.
    """

    endpoint: Endpoint

    @property
    def pending(self) -> int:
        """Calls under way on this node."""


N = TypeVar("N", bound=Node)


class Picker(Protocol):
    """A policy. One object serves one client of one service."""

    def pick(self, ready: Sequence[N]) -> N:
        """Choose a node; must be quick, and must not wait.

        `ready` is never empty, is in order of endpoint id, and never changes: other nodes come
        as another sequence.
        """


PickerFactory: TypeAlias = Callable[[random.Random], Picker]
"""Makes the picker of one client from that client's die; the classes below are such factories."""


@final
class RoundRobin:
    """Takes the nodes in turn: exactly even over a set that stays the same.

    The start is random, or all clients of a new deployment would begin with one server. When the
    set changes the turn goes on behind the endpoint that was picked last, in order of id: nobody
    who stays is skipped or picked twice in a round. Weights other than 0 are not looked at.
    """

    __slots__ = ("_next", "_ready", "_rng")

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._ready: Sequence[Node] = ()
        self._next = 0

    def pick(self, ready: Sequence[N]) -> N:
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
        return bisect_right(ready, last.endpoint.id, key=_id_of) % len(ready)


@final
class PowerOfTwo:
    """Draws two different nodes and takes the one with fewer pending calls.

    Two choices are enough to keep the longest queue exponentially shorter than one random choice
    does, and unlike "the least loaded of all" clients with the same stale view do not all run to
    the same server (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", IEEE
    TPDS 12(10), 2001). Weights other than 0 are not looked at: compared at an equal number of
    pending calls, they would leave the lighter node without any.
    """

    __slots__ = ("_random",)

    def __init__(self, rng: random.Random) -> None:
        self._random = rng.random

    def pick(self, ready: Sequence[N]) -> N:
        """Choose the less busy of two nodes drawn at random."""
        count = len(ready)
        if count == 1:
            return ready[0]
        # One draw for both: every ordered pair is equally likely, so at a tie the first is fair.
        first, second = divmod(int(self._random() * (count * (count - 1))), count - 1)
        if second >= first:  # step over `first`
            second += 1
        one, other = ready[first], ready[second]
        return one if one.pending <= other.pending else other


_BY_NAME: Final[Mapping[str, PickerFactory]] = MappingProxyType(
    {"p2c": PowerOfTwo, "round_robin": RoundRobin}
)


def picker_named(name: str, rng: random.Random) -> Picker:
    """The picker that a configuration calls `name`.

    Raises:
        ConfigError: there is none; the text lists those there are.
    """
    try:
        factory = _BY_NAME[name]
    except KeyError:
        raise ConfigError(f"no balancing policy {name!r}; use one of {sorted(_BY_NAME)}") from None
    return factory(rng)


def _id_of(node: Node) -> str:
    return node.endpoint.id
