"""The states of nodes, and the nodes by state."""

from __future__ import annotations

import enum
from bisect import bisect_left, insort
from dataclasses import asdict, dataclass
from typing import Generic, TypeVar, final

from meshkit.balancer.policies.policy import Node, id_of

__all__ = ["ByState", "Counts", "Readiness"]

N = TypeVar("N", bound=Node)


class Readiness(enum.StrEnum):
    """What a client knows of its connection to one endpoint."""

    CONNECTING = "connecting"  # never tried, or the first try is under way
    READY = "ready"
    FAILING = "failing"  # the last try failed; another will follow


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How many nodes are in which state; each is counted once, by what keeps it from calls.

    Attributes:
        ready: connected, and taking calls.
        connecting: not connected yet.
        failing: cannot be connected at the moment.
        draining: connected, but about to leave; takes calls only when no other can.
        parked: connected, but of weight 0; takes none.
        ejected: connected, but too many of its calls have failed; takes a single one now and then.
    """

    ready: int = 0
    connecting: int = 0
    failing: int = 0
    draining: int = 0
    parked: int = 0
    ejected: int = 0

    def __str__(self) -> str:
        """`3 ready, 1 connecting`, as error texts and reprs have it."""
        said = [f"{count} {word}" for word, count in asdict(self).items() if count]
        return ", ".join(said) or "no endpoints"


@final
class ByState(Generic[N]):
    """Each node in one of the states that `Counts` has.

    Attributes:
        nodes: those in each state, in order of endpoint id, so that one is found, put in and taken
            out in no time. The lists stay the same objects.
    """

    __slots__ = ("_state", "nodes")

    def __init__(self) -> None:
        self.nodes: dict[str, list[N]] = {state: [] for state in Counts.__slots__}
        self._state: dict[str, str] = {}

    def of(self, node: N) -> str:
        """The state that `node` is in."""
        return self._state[node.endpoint.id]

    def put(self, node: N, state: str) -> None:
        """`node` is in `state` from now on; it was in none."""
        self._state[node.endpoint.id] = state
        insort(self.nodes[state], node, key=id_of)

    def take(self, node: N) -> str:
        """`node` is in no state any more; the one that it was in."""
        state = self._state.pop(node.endpoint.id)
        nodes = self.nodes[state]
        del nodes[bisect_left(nodes, node.endpoint.id, key=id_of)]
        return state

    def counts(self) -> Counts:
        """How many nodes are in which state, now."""
        return Counts(**{state: len(nodes) for state, nodes in self.nodes.items()})
