"""Maglev: consistent hashing by a table, the most even there is."""

from __future__ import annotations

import random
from bisect import bisect_left, insort
from collections.abc import Collection, Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, cycle
from math import isqrt
from typing import Annotated, Any, Final, NamedTuple, final

from meshkit.balancer.policies.bounded_load import bounded
from meshkit.balancer.policies.hashing import (
    BalanceFactor,
    HashPicker,
    Key,
    numbers_of,
    place_of,
)
from meshkit.balancer.policies.policy import Clock, Node
from meshkit.errors import ConfigError
from meshkit.fields import Integer, check

__all__ = ["Maglev", "MaglevTable", "fill"]

_RATE: Final = 1_000_000  # steps of work for each second that passes; one takes some 60 ns
_MOST: Final = 50_000  # steps for one pick, however long ago the last one was
_LEAST: Final = 256
_ROW: Final = 50  # steps that it takes to begin with a node


class _Row(NamedTuple):
    key: str
    id: str
    weight: int
    node: Node


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Maglev:
    """Sends calls with the same key to the same node, by a table of slots that all fill in turn.

    Each node walks through the slots in an order of its own and takes the next free one when it is
    its turn (Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI
    2016, section 3.4; weights as in Envoy). So equal nodes have the same number of slots, but for
    one, where a ring's shares differ by 10 %; in exchange a change moves some keys of those who
    stay, too.

    A table is made anew after each change, which takes about 50 ms of computing whatever the
    number of nodes. It is done in small pieces by the picks themselves, for about a twentieth of
    the time: about a second later the new table is there. Until then the old one holds: what is of
    one who left goes to the next slot's, and a new one gets nothing yet. Where endpoints come and
    go all the time, or there are more than some thousand, `ring_hash` is the better choice.

    An endpoint is hashed by the `hash_key` of its metadata, else by its address.

    Attributes:
        key: as of `RingHash`.
        table_size: slots, a prime number; a hundred for each endpoint make the shares differ by
            1 % at most.
        hash_balance_factor: as of `RingHash`.
    """

    key: Key = ""
    table_size: Annotated[int, Integer(2, 5_000_011)] = 65_537
    hash_balance_factor: BalanceFactor | None = None

    def __post_init__(self) -> None:
        check(self)
        size = self.table_size
        if any(size % factor == 0 for factor in range(2, isqrt(size) + 1)):
            raise ConfigError(f"table_size must be a prime number, got {size}; 65537 is one")

    def picker(self, rng: random.Random, now: Clock) -> HashPicker:
        """The picker of one client."""
        table = MaglevTable(self.table_size, now)
        return HashPicker(bounded(table, self.hash_balance_factor), self.key, rng)


@final
class MaglevTable:
    """Slots, each of a node; a place belongs to the slot of its remainder.

    Attributes:
        weight: of all nodes together.
    """

    def __init__(self, size: int, now: Clock) -> None:
        self.weight = 0
        self._size = size
        self._now = now
        self._worked_at = now()
        self._rows: list[_Row] = []  # in the same order in all clients
        self._row_of: dict[Node, _Row] = {}
        self._slots: list[Node] = []  # none before the first are made, or when all of them left
        self._left: set[Node] = set()  # of those in the slots
        self._of: tuple[_Row, ...] = ()  # what the next slots are made of
        self._work: Generator[None, int, list[Node]] | None = None
        self._is_outdated = False

    def owner(self, place: int) -> Any:
        """The node of a place's slot."""
        if self._work is not None:
            self._go_on(self._work)
        if not self._slots:
            return self._rows[place * len(self._rows) >> 64].node
        node = self._slots[place % self._size]
        return node if node in self._row_of else next(self.walk(place))

    def walk(self, place: int) -> Iterator[Any]:
        """The nodes of all slots from that one on, and then of all there are, round and round."""
        size = len(self._slots)
        slot = place % size if size else 0
        slots = chain(range(slot, size), range(slot))
        rank = place * len(self._rows) >> 64
        ranks = cycle(range(rank, rank - len(self._rows), -1))
        return chain(
            (node for slot in slots if (node := self._slots[slot]) in self._row_of),
            (self._rows[rank].node for rank in ranks),
        )

    def follow(self, added: Collection[Node], removed: Collection[Node]) -> None:
        """Begin with another table; it is made bit by bit."""
        for node in removed:
            row = self._row_of.pop(node)
            del self._rows[bisect_left(self._rows, _order(row), key=_order)]
            self.weight -= row.weight
        for node in added:
            endpoint = node.endpoint
            row = _Row(place_of(endpoint), endpoint.id, endpoint.weight, node)
            self._row_of[node] = row
            insort(self._rows, row, key=_order)
            self.weight += row.weight
        self._left.difference_update(removed)
        if not self._left:
            self._slots = []
        self._is_outdated = True
        if self._work is None:
            self._begin()

    def _begin(self) -> None:
        self._is_outdated = False
        self._worked_at = self._now()
        self._of = tuple(self._rows)
        self._work = fill(self._size, self._of)
        next(self._work)

    def _go_on(self, work: Generator[None, int, list[Node]]) -> None:
        now = self._now()
        steps = min(_MOST, int((now - self._worked_at) * _RATE))
        if steps < _LEAST:
            return
        self._worked_at = now
        try:
            work.send(steps)
        except StopIteration as done:
            self._left = {row.node for row in self._of if row.node in self._row_of}
            self._slots = done.value if self._left else []
            self._work = None
            if self._is_outdated:
                self._begin()


def fill(size: int, rows: Sequence[_Row]) -> Generator[None, int, list[Node]]:
    """Make a table of `size` slots; send it how many steps to do, until it returns."""
    left = yield
    turns: list[_Turns] = []
    heaviest = 0
    for row in rows:
        turns.append(_Turns(row, size))
        heaviest = max(heaviest, row.weight)
        left -= _ROW
        while left <= 0:
            left += yield
    slots: list[Any] = [None] * size
    free = size
    for each in cycle(turns):
        left -= 1
        each.credit += each.weight
        if each.credit >= heaviest:  # a lighter one misses some turns
            each.credit -= heaviest
            slot, skip = each.slot, each.skip
            while slots[slot] is not None:
                slot = (slot + skip) % size
                left -= 1
                while left <= 0:
                    left += yield
            slots[slot] = each.node
            each.slot = slot
            free -= 1
            if not free:
                break
        while left <= 0:
            left += yield
    return slots


@final
class _Turns:
    """A node that takes slots: where it is in its order of them, and when it may take one."""

    __slots__ = ("credit", "node", "skip", "slot", "weight")

    def __init__(self, row: _Row, size: int) -> None:
        first, skip = numbers_of(row.key, 2)
        self.node = row.node
        self.slot = first % size
        self.skip = skip % (size - 1) + 1
        self.weight = row.weight
        self.credit = 0


def _order(row: _Row) -> tuple[str, str]:
    return row[:2]
