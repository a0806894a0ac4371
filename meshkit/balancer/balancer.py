"""The nodes of one service, and which of them may take a call."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from typing import Generic, TypeVar, final

from meshkit.balancer.pickers import Node, Picker
from meshkit.endpoint import Endpoint, EndpointSet, State

__all__ = ["Balancer", "Counts", "Readiness"]

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
    """

    ready: int = 0
    connecting: int = 0
    failing: int = 0
    draining: int = 0
    parked: int = 0

    def __str__(self) -> str:
        """`3 ready, 1 connecting`, as error texts and reprs have it."""
        said = [f"{count} {word}" for word, count in asdict(self).items() if count]
        return ", ".join(said) or "no endpoints"


@final
class Balancer(Generic[N]):
    """Owns the nodes of one service; knows which may be picked, and lets a picker choose.

    A node lives as long as its endpoint keeps id and address, and with it all that was learnt on
    it. No method waits: on one event loop that makes every change atomic.
    """

    def __init__(self, service: str, *, make_node: Callable[[Endpoint], N], picker: Picker) -> None:
        self._want = EndpointSet(service)
        self._make_node = make_node
        self._picker = picker
        self._nodes: dict[str, N] = {}
        self._readiness: dict[str, Readiness] = {}
        self._pickable: tuple[N, ...] = ()

    @property
    def nodes(self) -> Collection[N]:
        """All nodes, in order of endpoint id."""
        return self._nodes.values()

    def pick(self) -> N | None:
        """The node for the next call, or None while there is none to pick."""
        pickable = self._pickable
        return self._picker.pick(pickable) if pickable else None

    def reconcile(self, want: EndpointSet) -> list[N]:
        """Adopt `want`; return the nodes that are no longer part of it, for the caller to retire.

        New nodes begin as `CONNECTING`. An endpoint that moved to another address, and one that
        took over the address under another id, are new nodes.
        """
        old = self._nodes
        fresh = {
            e.id: self._make_node(e) for e in want if not self._has(e)
        }  # a raise changes nothing
        known = old | fresh
        self._want = want
        self._nodes = {e.id: known[e.id] for e in want}
        for endpoint in want:
            self._nodes[endpoint.id].endpoint = endpoint  # weight or state may differ
        self._readiness = {
            i: Readiness.CONNECTING if i in fresh else self._readiness[i] for i in self._nodes
        }
        self._rebuild()
        return [node for i, node in old.items() if self._nodes.get(i) is not node]

    def set_readiness(self, node: N, readiness: Readiness) -> None:
        """Take note of what became of the connection of `node`.

        What is reported of a retired node has no effect.
        """
        endpoint_id = node.endpoint.id
        if self._nodes.get(endpoint_id) is node:
            self._readiness[endpoint_id] = readiness
            self._rebuild()

    def counts(self) -> Counts:
        """How many nodes are in which state, now."""
        return Counts(**Counter(self._state_of(node) for node in self.nodes))

    def __repr__(self) -> str:
        return f"<Balancer {self._want.service!r} r{self._want.revision}: {self.counts()}>"

    def _has(self, endpoint: Endpoint) -> bool:
        node = self._nodes.get(endpoint.id)
        return node is not None and node.endpoint.address == endpoint.address

    def _rebuild(self) -> None:
        """Prepare the choice of `pick`, so that a call costs the same with any number of nodes."""
        ready = [n for n in self.nodes if self._is_ready(n) and n.endpoint.weight > 0]
        serving = [n for n in ready if n.endpoint.state is State.SERVING]
        self._pickable = tuple(serving or ready)  # one that drains still answers: better than none

    def _is_ready(self, node: N) -> bool:
        return self._readiness[node.endpoint.id] is Readiness.READY

    def _state_of(self, node: N) -> str:
        if not self._is_ready(node):
            return self._readiness[node.endpoint.id]
        if node.endpoint.weight == 0:
            return "parked"
        return "draining" if node.endpoint.state is State.DRAINING else "ready"
