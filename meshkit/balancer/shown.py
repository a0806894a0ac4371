"""What a picker has been shown, and what has changed since."""

from __future__ import annotations

from collections.abc import Collection
from typing import Generic, TypeVar, final

from meshkit.balancer.policies.policy import Follower, Node, Picker

__all__ = ["Shown"]

N = TypeVar("N", bound=Node)


@final
class Shown(Generic[N]):
    """The nodes as a picker knows them: a follower is told the differences only.

    What is remembered for it are nodes that it knows or that are there now, so a week without a
    pick does not make it more.
    """

    def __init__(self, picker: Picker) -> None:
        self._follower = picker if isinstance(picker, Follower) else None
        self._states: tuple[str, ...] = ()
        self._nodes: tuple[N, ...] = ()
        self._added: dict[N, None] = {}
        self._removed: dict[N, None] = {}

    def add(self, node: N, state: str) -> None:
        """A node has come into a state."""
        if state in self._states:
            self._added[node] = None

    def remove(self, node: N, state: str) -> None:
        """A node has left a state."""
        if state in self._states:
            if node in self._added:
                del self._added[node]
            else:
                self._removed[node] = None

    def update(self, nodes: Collection[N], states: tuple[str, ...]) -> tuple[N, ...]:
        """From now on `nodes` are shown, which are all that are in one of `states`."""
        if states != self._states:
            self._compare(nodes)
        added, removed = self._added, self._removed
        self._states, self._nodes = states, tuple(nodes)
        self._added, self._removed = {}, {}
        if self._follower is not None and (added or removed):
            self._follower.follow(added.keys(), removed.keys())
        return self._nodes

    def _compare(self, nodes: Collection[N]) -> None:
        """Find the differences anew; who has left and is back may be described anew."""
        before, now = dict.fromkeys(self._nodes), dict.fromkeys(nodes)
        left = self._removed
        self._added = {node: None for node in now if node not in before or node in left}
        self._removed = {node: None for node in before if node not in now or node in left}
