"""What a policy is, and what it may look at.

A policy is a value: it compares, it can come from a configuration. Its picker is what it becomes
in one client: it holds the turn, the ring, the die. Neither knows connections or registries.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Sequence
from typing import Protocol, TypeAlias, TypeVar, runtime_checkable

from meshkit.balancer.load import Report
from meshkit.endpoint import Endpoint

__all__ = ["ByKey", "Clock", "Follower", "Node", "PickInfo", "Picker", "Policy", "id_of"]

Clock: TypeAlias = Callable[[], float]
"""Seconds since some moment in the past; never goes back."""


class Node(Protocol):
    """What balancing needs to know of one endpoint's connection.

    All but the endpoint is what `Load` learns: make a node one of these.
    """

    endpoint: Endpoint
    report: Report | None
    suspect: bool
    """A call to it has failed, and none has succeeded since: the end of each is looked at."""

    @property
    def pending(self) -> int:
        """Calls under way on this node."""

    @property
    def samples(self) -> int:
        """Calls that told how long they took."""

    @property
    def cost(self) -> float:
        """Seconds that a call takes on average, failed ones much longer; 0.0 while unknown."""

    @property
    def peak(self) -> float:
        """Seconds that a call takes at worst; 0.0 while unknown."""

    @property
    def success(self) -> float:
        """Share of the calls that ended well."""

    @property
    def finished(self) -> int:
        """Calls that have ended, however they did."""

    def fresh(self, now: float) -> float:
        """How much of this still holds, from 1.0 down to 0.0."""


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


@runtime_checkable
class Follower(Protocol):
    """A picker that keeps a ring, a schedule, a table over the nodes, and is told what changes.

    So one change among thousands of nodes costs about as much as among ten.
    """

    def pick(self, ready: Sequence[N], info: PickInfo) -> N:
        """As a `Picker` does; `ready` is what `follow` has told so far."""

    def follow(self, added: Collection[Node], removed: Collection[Node]) -> None:
        """Take note of who is ready now and who is not any more, before the pick that sees it.

        The first time, all are added. One whose endpoint is described anew (another weight) is
        removed and added: forget what you know by the node, which has its new description already.
        """


@runtime_checkable
class ByKey(Protocol):
    """A picker that sends calls of one key to one node; anybody else would be the wrong one.

    So a new node takes all calls of its keys at once: slow start does not hold them back.
    """

    @property
    def key_of(self) -> Callable[[PickInfo], bytes]:
        """The key of a call; `b""` if it has none."""


class Policy(Protocol):
    """Which of the ready nodes takes the next call. Make it a frozen value, as ours are.

    One with an attribute `reads_reports` that is true finds in each node's `report` what its server
    said of its load; to read that at the end of each call has its price.
    """

    def picker(self, rng: random.Random, now: Clock) -> Picker:
        """The picker of one client, with that client's die and clock."""


def id_of(node: Node) -> str:
    """What nodes are ordered by."""
    return node.endpoint.id
