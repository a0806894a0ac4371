"""The nodes of one service, and which of them may take a call."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterator
from itertools import chain
from operator import attrgetter
from typing import Final, Generic, TypeVar, final

from meshkit.balancer.circuit import InFlight
from meshkit.balancer.outlier import Outcome, Outliers
from meshkit.balancer.policies.policy import ByKey, Clock, Node, Picker, PickInfo, id_of
from meshkit.balancer.resilience import Resilience
from meshkit.balancer.shown import Shown
from meshkit.balancer.slow_start import Warming
from meshkit.balancer.states import ByState, Counts, Readiness
from meshkit.endpoint import Endpoint, EndpointSet, State

__all__ = ["Balancer"]

N = TypeVar("N", bound=Node)

_DRAWS: Final = 3  # times that the policy is asked for another node, before anybody else will do
_DEFAULT: Final = Resilience()
_pending_of: Final = attrgetter("pending")


@final
class Balancer(Generic[N]):
    """Owns the nodes of one service; knows which may be picked, and lets a picker choose.

    A node lives as long as its endpoint keeps id and address, and with it all that was learnt on
    it. No method waits: on one event loop that makes every change atomic.

    Args:
        make_node: makes the node of an endpoint.
        picker: the policy at work.
        rng: the die for chances around the policy's choice.
        now: the clock, in seconds; read by no pick where all nodes are well and limits are off.
        resilience: what is done around the policy's choice.

    Attributes:
        in_flight: the calls to all nodes; the nodes count them there.
    """

    def __init__(
        self,
        service: str,
        *,
        make_node: Callable[[Endpoint], N],
        picker: Picker,
        rng: random.Random,
        now: Clock,
        resilience: Resilience = _DEFAULT,
    ) -> None:
        self.in_flight = InFlight()
        self._want = EndpointSet(service)
        self._make_node = make_node
        self._picker = picker
        self._is_by_key = isinstance(picker, ByKey)
        self._shown: Shown[N] = Shown(picker)
        self._rng = rng
        self._now = now
        self._resilience = resilience
        self._nodes: dict[str, N] = {}
        self._readiness: dict[str, Readiness] = {}
        self._states: ByState[N] = ByState()
        self._pickable: tuple[N, ...] = ()  # empty: none, or to be made anew
        self._is_careful = True  # the policy's choice is not all there is to a pick
        self._warming: Warming[N] = Warming(resilience.slow_start, rng)
        self._outliers: Outliers[N] = Outliers(
            resilience.outlier_detection,
            rng,
            ready=self._states.nodes["ready"],
            out=self._states.nodes["ejected"],
        )

    @property
    def nodes(self) -> Collection[N]:
        """All nodes, in order of endpoint id."""
        return [self._nodes[endpoint_id] for endpoint_id in self._want.by_id]

    # ---- for calls

    def pick(self, info: PickInfo) -> N | None:
        """The node for a call, or None while there is none to pick."""
        pickable = self._pickable or self._choice()
        if self._is_careful:
            return self._pick_carefully(pickable, info)
        if len(pickable) == 1 and not self._is_by_key:  # no choice, and nobody who remembers it
            return pickable[0]
        return self._picker.pick(pickable, info) if pickable else None

    def pick_other(self, info: PickInfo, tried: Collection[N]) -> N | None:
        """The node for another attempt of a call: none of `tried`, while there is another.

        The policy is asked first. One that insists, since it goes by the call alone or by who is
        cheapest, is left for a random choice: a fixed neighbour would get all that a node fails.
        """
        for _ in range(_DRAWS):
            if (node := self.pick(info)) not in tried:
                return node
        return next(filter(self._has_room, self._some_others(tried)), node)

    def _pick_carefully(self, pickable: tuple[N, ...], info: PickInfo) -> N | None:
        if self._resilience.circuit_breaker.is_open(self.in_flight.pending):
            return None
        now = self._now()
        if (probed := self._outliers.due(now)) is not None:
            return probed
        if not pickable:
            return None
        node = self._picker.pick(pickable, info)
        if self._may_take(node, now):
            return node
        if others := [n for n in self._some_others((node,)) if self._may_take(n, now)]:
            return min(others, key=_pending_of)
        if self._has_room(node):
            return node
        free = [node for node in pickable if self._has_room(node)]
        return self._rng.choice(free) if free else None

    def _may_take(self, node: N, now: float) -> bool:
        return self._has_room(node) and (self._is_by_key or self._warming.admits(node, now))

    def _has_room(self, node: N) -> bool:
        return not self._resilience.circuit_breaker.is_full(node.pending)

    def _some_others(self, tried: Collection[N]) -> Iterator[N]:
        """Up to two nodes more than were tried at random, without those; one, if there is any."""
        pickable = self._pickable
        places = self._rng.sample(range(len(pickable)), min(len(tried) + 2, len(pickable)))
        return (pickable[place] for place in places if pickable[place] not in tried)

    def refusal(self) -> str:
        """Which limit keeps calls from connected nodes, in words; "" if there is no such node."""
        if not self._pickable:
            return ""
        return self._resilience.circuit_breaker.refusal(self.in_flight.pending)

    @property
    def next_try(self) -> float | None:
        """When an ejected node will be tried again, if that is all that calls can wait for."""
        out = self._states.nodes["ejected"]
        if not out or self._pickable or self._choice():
            return None
        return min(self._outliers.ejected[node] for node in out)

    def hear(self, node: N, code: str, sent_at: float) -> list[Outcome[N]]:
        """A call has ended; what follows of it.

        Of a suspect the end of every call has to be told, of others at least the failures.

        Args:
            node: where the call was.
            code: the status code's name.
            sent_at: when the call was sent, by the clock.
        """
        if self._nodes.get(node.endpoint.id) is not node:
            return []
        outcomes = self._outliers.hear(node, code, sent_at, self._now())
        for outcome in outcomes:
            self._take_out(outcome.node)
            self._put_in(outcome.node)
        return outcomes

    # ---- for what is known of the nodes

    def adopt(self, picker: Picker) -> None:
        """Let another policy choose from now on; what the nodes have learnt stays."""
        self._picker = picker
        self._is_by_key = isinstance(picker, ByKey)
        self._shown = Shown(picker)
        self._pickable = ()

    def configure(self, resilience: Resilience) -> None:
        """Let other rules hold around the policy's choice from now on; who is ejected stays so."""
        self._resilience = resilience
        self._outliers.detection = resilience.outlier_detection
        self._warming.slow_start = resilience.slow_start
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
        is_first = not self._want
        self._want = want
        gone = [self._nodes[e.id] for e in (*delta.removed, *moved)]
        for node in gone:
            self._drop(node)
        for endpoint in delta.changed:
            if (known := self._nodes.get(endpoint.id)) is not None:
                self._take_out(known)
                known.endpoint = endpoint  # weight or state may differ
                self._put_in(known)
        for node in fresh:
            self._nodes[node.endpoint.id] = node
            self._readiness[node.endpoint.id] = Readiness.CONNECTING
            self._put_in(node)
            if not is_first:
                self._warming.expect(node)
        return sorted(gone, key=id_of)

    def _drop(self, node: N) -> None:
        self._take_out(node)
        del self._nodes[node.endpoint.id], self._readiness[node.endpoint.id]
        self._warming.forget(node)
        self._outliers.forget(node)

    def set_readiness(self, node: N, readiness: Readiness) -> None:
        """Take note of what became of the connection of `node`.

        What is reported of a retired node has no effect.
        """
        endpoint_id = node.endpoint.id
        if self._nodes.get(endpoint_id) is node and self._readiness[endpoint_id] != readiness:
            self._take_out(node)
            self._readiness[endpoint_id] = readiness
            self._put_in(node)
            if readiness is Readiness.READY:
                self._warming.begin(node, self._now())

    def state_of(self, node: N) -> str:
        """What keeps `node` from calls, or "ready": as `Counts` has it."""
        return self._states.of(node)

    def ejections(self, node: N) -> int:
        """How often `node` was ejected."""
        return self._outliers.ejections(node)

    def counts(self) -> Counts:
        """How many nodes are in which state, now."""
        return self._states.counts()

    def __repr__(self) -> str:
        return f"<Balancer {self._want.service!r} r{self._want.revision}: {self.counts()}>"

    def _choice(self) -> tuple[N, ...]:
        """Those to pick from, kept until another comes or goes; a draining one beats none."""
        ready, ejected = self._states.nodes["ready"], self._states.nodes["ejected"]
        states: tuple[str, ...] = ("ready" if ready else "draining",)
        nodes = self._states.nodes[states[0]]
        if ejected and self._resilience.outlier_detection.is_panic(len(ready), len(ejected)):
            states = (*states, "ejected")
            nodes = sorted(chain(nodes, ejected), key=id_of)
        self._pickable = self._shown.update(nodes, states)
        limits = self._resilience.circuit_breaker
        is_warming = bool(self._warming) and not self._is_by_key
        self._is_careful = bool(ejected or is_warming or limits.is_on)
        return self._pickable

    def _put_in(self, node: N) -> None:
        state = self._state_for(node)
        self._states.put(node, state)
        self._shown.add(node, state)
        self._pickable = ()
        if state == "ejected":
            self._outliers.expect(node)

    def _take_out(self, node: N) -> None:
        self._shown.remove(node, self._states.take(node))
        self._pickable = ()

    def _state_for(self, node: N) -> str:
        readiness = self._readiness[node.endpoint.id]
        if readiness is not Readiness.READY:
            return readiness
        if node.endpoint.weight == 0:
            return "parked"
        if node.endpoint.state is State.DRAINING:
            return "draining"
        return "ejected" if node in self._outliers.ejected else "ready"
