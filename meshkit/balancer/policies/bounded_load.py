"""Consistent hashing with bounded loads: nobody has much more than the mean, whatever the keys."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import islice
from typing import Any, Final, final

from meshkit.balancer.policies.policy import Node
from meshkit.balancer.policies.table import Table

__all__ = ["Bound"]

_FAR: Final = 256  # nodes to look at; with a bound of 125 % one in five is free
_LOOKS: Final = 2  # per pick, at nodes that had calls: more than one, so that it catches up


@final
class Bound:
    """Finds a node that has room for another call.

    A node may have its weight's share of all calls under way, times a factor, this call included
    (Mirrokni, Thorup and Zadimoghaddam, "Consistent Hashing with Bounded Loads", SODA 2018; as
    `hash_balance_factor` in Envoy).

    How many calls are under way in all is counted from what each pick sees: that one more begins,
    and how many two of the other busy nodes have left. So it is never too small, and somebody is
    always below the mean; after a burst it is too large for a while, which allows more than it
    should and moves no key.

    Args:
        factor: in percent; 100 is the mean.
    """

    __slots__ = ("_factor", "_seen", "_total")

    def __init__(self, factor: int) -> None:
        self._factor = factor
        self._seen: dict[Node, int] = {}  # calls under way on busy nodes; longest ago first
        self._total = 0

    def owner(self, table: Table, place: int) -> Any:
        """The owner of a hash, or the first after it with room; of many without, the least busy."""
        seen = self._seen
        for busy in tuple(islice(seen, _LOOKS)):
            pending = busy.pending
            self._total += pending - seen.pop(busy)
            if pending:
                seen[busy] = pending
        # A node of weight w is full when `pending * unit >= most * w`.
        most, unit = self._factor * (self._total + 1), 100 * table.weight
        node = table.owner(place)
        pending = node.pending + 1
        if (pending - 1) * unit >= most * node.endpoint.weight:
            node = _search(islice(table.walk(place), _FAR), most, unit)
            pending = node.pending + 1
        self._total += pending - seen.pop(node, 0)
        seen[node] = pending
        return node

    def forget(self, nodes: Collection[Node]) -> None:
        """Nodes that have gone no longer count."""
        for node in nodes:
            self._total -= self._seen.pop(node, 0)


def _search(nodes: Iterator[Node], most: int, unit: int) -> Node:
    least = next(nodes)  # it is known to be full
    for node in nodes:
        if node.pending * unit < most * node.endpoint.weight:
            return node
        if node.pending < least.pending:
            least = node
    return least
