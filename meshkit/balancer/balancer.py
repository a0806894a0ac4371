"""The nodes of one service, and which of them may take a call."""

from __future__ import annotations

import enum
import random
from bisect import bisect_left, insort
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from typing import Final, Generic, TypeVar, final

from meshkit.balancer.policies.policy import Node, Picker, PickInfo, id_of
from meshkit.balancer.shown import Shown
from meshkit.endpoint import Endpoint, EndpointSet, State

__all__ = ["Balancer", "Counts", "Readiness"]

N = TypeVar("N", bound=Node)

_DRAWS: Final = 3  # times that the policy is asked for another node, before anybody else will do


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

    def __init__(
        self,
        service: str,
        *,
        make_node: Callable[[Endpoint], N],
        picker: Picker,
        rng: random.Random,
    ) -> None:
        self._want = EndpointSet(service)
        self._rng = rng
        self._make_node = make_node
        self._picker = picker
        self._shown: Shown[N] = Shown(picker)
        self._nodes: dict[str, N] = {}
        self._readiness: dict[str, Readiness] = {}
        # In order of endpoint id, so that a node is found, put in and taken out in no time.
        self._by_state: dict[str, list[N]] = {state: [] for state in Counts.__slots__}
        self._pickable: tuple[N, ...] = ()  # empty: none, or to be made anew

    @property
    def nodes(self) -> Collection[N]:
        """All nodes, in order of endpoint id."""
        return [self._nodes[endpoint_id] for endpoint_id in self._want.by_id]

    def pick(self, info: PickInfo) -> N | None:
        """The node for a call, or None while there is none to pick."""
        pickable = self._pickable or self._choice()
        return self._picker.pick(pickable, info) if pickable else None

    def pick_other(self, info: PickInfo, tried: Collection[N]) -> N | None:
        """The node for another attempt of a call: none of `tried`, while there is another.

        The policy is asked first. One that insists, since it goes by the call alone or by who is
        cheapest, is left for a random choice: a fixed neighbour would get all that a node fails.
        """
        for _ in range(_DRAWS):
            if (node := self.pick(info)) not in tried:
                return node
        return self._other_than(tried) or node

    def adopt(self, picker: Picker) -> None:
        """Let another policy choose from now on; what the nodes have learnt stays."""
        self._picker = picker
        self._shown = Shown(picker)
        self._pickable = ()

    def reconcile(self, want: EndpointSet) -> list[N]:
        """Adopt `want`; return the nodes that are no longer part of it, for the caller to retire.

        New nodes begin as `CONNECTING`. An endpoint that moved to another address, and one that
        took over the address under another id, are new nodes.
        """
        delta = want.since(self._want)
        moved = [e for e in delta.changed if e.address != self._nodes[e.id].endpoint.address]
        # A raise changes nothing.
        fresh = [self._make_node(endpoint) for endpoint in (*delta.added, *moved)]
        self._want = want
        gone = [self._nodes[e.id] for e in (*delta.removed, *moved)]
        for node in gone:
            self._take_out(node)
            del self._nodes[node.endpoint.id], self._readiness[node.endpoint.id]
        for endpoint in delta.changed:
            if (known := self._nodes.get(endpoint.id)) is not None:
                self._take_out(known)
                known.endpoint = endpoint  # weight or state may differ
                self._put_in(known)
        for node in fresh:
            self._nodes[node.endpoint.id] = node
            self._readiness[node.endpoint.id] = Readiness.CONNECTING
            self._put_in(node)
        return sorted(gone, key=id_of)

    def set_readiness(self, node: N, readiness: Readiness) -> None:
        """Take note of what became of the connection of `node`.

        What is reported of a retired node has no effect.
        """
        endpoint_id = node.endpoint.id
        if self._nodes.get(endpoint_id) is node and self._readiness[endpoint_id] != readiness:
            self._take_out(node)
            self._readiness[endpoint_id] = readiness
            self._put_in(node)

    def counts(self) -> Counts:
        """How many nodes are in which state, now."""
        return Counts(**{state: len(nodes) for state, nodes in self._by_state.items()})

    def __repr__(self) -> str:
        return f"<Balancer {self._want.service!r} r{self._want.revision}: {self.counts()}>"

    def _choice(self) -> tuple[N, ...]:
        """Those to pick from, kept until another comes or goes; a draining one beats none."""
        state = "ready" if self._by_state["ready"] else "draining"
        self._pickable = self._shown.update(self._by_state[state], state)
        return self._pickable

    def _other_than(self, tried: Collection[N]) -> N | None:
        pickable = self._pickable
        # One place more than were tried: at least one of them is another's.
        places = self._rng.sample(range(len(pickable)), min(len(tried) + 1, len(pickable)))
        return next((pickable[place] for place in places if pickable[place] not in tried), None)

    def _put_in(self, node: N) -> None:
        state = self._state_of(node)
        insort(self._by_state[state], node, key=id_of)
        self._shown.add(node, state)
        self._pickable = ()

    def _take_out(self, node: N) -> None:
        state = self._state_of(node)
        nodes = self._by_state[state]
        del nodes[bisect_left(nodes, node.endpoint.id, key=id_of)]
        self._shown.remove(node, state)
        self._pickable = ()

    def _state_of(self, node: N) -> str:
        readiness = self._readiness[node.endpoint.id]
        if readiness is not Readiness.READY:
            return readiness
        if node.endpoint.weight == 0:
            return "parked"
        return "draining" if node.endpoint.state is State.DRAINING else "ready"
