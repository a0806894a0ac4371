"""Consistent hashing with bounded loads: nobody has much more than the mean, whatever the keys."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator
from itertools import islice
from typing import Any, Final, final

from meshkit.balancer.policies.policy import Node
from meshkit.balancer.policies.table import OrderedTable, Table

__all__ = ["bounded"]

_FAR: Final = 256  # nodes to look at; with a bound of 125 % one in five is free
_LOOKS: Final = 2  # per pick, at nodes that had calls: more than one, so that it catches up


def bounded(table: OrderedTable, factor: int | None) -> Table:
    """The table with a bound on load, in percent of the mean; None: there is none."""
    return table if factor is None else _Bounded(table, factor)


@final
class _Bounded:
    """A table in which a hash belongs to a node that has room for another call.

    A node may have its weight's share of all calls under way, times a factor, this call included
    (Mirrokni, Thorup and Zadimoghaddam, "Consistent Hashing with Bounded Loads", SODA 2018; as
    `hash_balance_factor` in Envoy).

    How many calls are under way in all is counted from what each pick sees: that one more begins,
    and how many two of the busy nodes have left. So it is never too small, and somebody is always
    below the mean; after a burst it is too large for a while, which allows more than it should and
    moves no key.

    Args:
        table: whom a hash belongs to without a bound.
        factor: in percent; 100 is the mean.
    """

    __slots__ = ("_busy", "_factor", "_seen", "_table", "_total")

    def __init__(self, table: OrderedTable, factor: int) -> None:
        self._table = table
        self._factor = factor
        self._seen: dict[Node, int] = {}  # calls under way on busy nodes, when last looked at
        self._busy: deque[Node] = deque()  # these nodes, by turns
        self._total = 0

    def owner(self, place: int) -> Any:
        """The owner of a hash, or the first after it with room; of many without, the least busy."""
        seen, busy = self._seen, self._busy
        total = self._total + 1
        looks = _LOOKS
        while looks and busy:
            looks -= 1
            node = busy[0]
            pending = node.pending
            total += pending - seen[node]
            if pending:
                seen[node] = pending
                busy.rotate(-1)
            else:
                del seen[node]
                busy.popleft()
        table = self._table
        node = table.owner(place)
        pending = node.pending
        if pending:  # or there is room for sure
            # A node of weight w is full when `pending * unit >= most * w`.
            most, unit = self._factor * total, 100 * table.weight
            if pending * unit >= most * node.endpoint.weight:
                node = _search(islice(table.walk(place), _FAR), most, unit)
                pending = node.pending
        if node in seen:
            total -= seen[node]
        else:
            busy.append(node)
        seen[node] = pending + 1
        self._total = total + pending
        return node

    def follow(self, added: Collection[Node], removed: Collection[Node]) -> None:
        """Take note of who comes and goes; who has gone no longer counts."""
        self._table.follow(added, removed)
        for node in removed:
            self._total -= self._seen.pop(node, 0)
        self._busy = deque(self._seen)


def _search(nodes: Iterator[Node], most: int, unit: int) -> Node:
    least = next(nodes)  # it is known to be full
    for node in nodes:
        if node.pending * unit < most * node.endpoint.weight:
            return node
        if node.pending < least.pending:
            least = node
    return least
