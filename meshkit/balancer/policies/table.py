"""Whom a hash belongs to: what ring hash and Maglev differ in."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, Protocol

from meshkit.balancer.policies.policy import Node

__all__ = ["OrderedTable", "Table"]


class Table(Protocol):
    """Whom a hash belongs to, among the nodes that there are now."""

    def follow(self, added: Collection[Node], removed: Collection[Node]) -> None:
        """As a `Follower` does."""

    def owner(self, place: int) -> Any:
        """The node, of those that were added, that a hash belongs to."""


class OrderedTable(Table, Protocol):
    """One that knows as well to whom a hash would belong next."""

    weight: int
    """Of all nodes together."""

    def walk(self, place: int) -> Iterator[Any]:
        """The owner, and those who would be next without it; some several times, without end."""
