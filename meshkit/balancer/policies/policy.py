"""What a policy is, and what it may look at.

A policy is a value: it compares, it can come from a configuration. Its picker is what it becomes
in one client: it holds the turn, the ring, the die. Neither knows connections or registries.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias, TypeVar

from meshkit.endpoint import Endpoint

__all__ = ["Clock", "Node", "PickInfo", "Picker", "Policy", "id_of"]

Clock: TypeAlias = Callable[[], float]
"""Seconds since some moment in the past; never goes back."""


class Node(Protocol):
    """What balancing needs to know of one endpoint's connection.

    Make `pending` a plain attribute: it is read on the path of every call.
    """

    endpoint: Endpoint

    @property
    def pending(self) -> int:
        """Calls under way on this node."""


N = TypeVar("N", bound=Node)


class PickInfo(Protocol):
    """What a picker may know of the call that it picks for."""

    @property
    def path(self) -> str:
        """The method's full name: `/package.Service/Method`."""

    @property
    def metadata(self) -> Sequence[tuple[str, str | bytes]]:
        """What the caller sends along."""


class Picker(Protocol):
    """A policy at work. One object serves one client of one service."""

    def pick(self, ready: Sequence[N], info: PickInfo) -> N:
        """Choose a node; must be quick, and must not wait.

        `ready` is never empty, is in order of endpoint id, and never changes: other nodes come
        as another sequence.
        """


class Policy(Protocol):
    """Which of the ready nodes takes the next call. Make it a frozen value, as ours are."""

    def picker(self, rng: random.Random, now: Clock) -> Picker:
        """The picker of one client, with that client's die and clock."""


def id_of(node: Node) -> str:
    """What nodes are ordered by."""
    return node.endpoint.id
