"""The nodes of one service, and which of them may take a call."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterator
from typing import Final, Generic, TypeVar, final

from meshkit.balancer.circuit import InFlight
from meshkit.balancer.group import Care, Group
from meshkit.balancer.outlier import Outcome, Outliers
from meshkit.balancer.policies.policy import Clock, Node, Picker, id_of
from meshkit.balancer.resilience import Resilience
from meshkit.balancer.selector import EVERY, Selector
from meshkit.balancer.slow_start import Warming
from meshkit.balancer.states import ByState, Counts, Readiness
from meshkit.endpoint import Endpoint, EndpointSet, State

__all__ = ["Balancer"]

N = TypeVar("N", bound=Node)

_DEFAULT: Final = Resilience()


@final
class Balancer(Generic[N]):
    """Owns the nodes of one service; knows which may be picked, and lets pickers choose.

    One chooses among all nodes, others among the groups that routes send calls to.

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
        pick: the node for a call, of all; None while there is none to pick.
        pick_other: the node for another attempt of a call: none of those tried, if possible.
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
        self._now = now
        self._nodes: dict[str, N] = {}
        self._readiness: dict[str, Readiness] = {}
        self._states: ByState[N] = ByState()
        self._warming: Warming[N] = Warming(resilience.slow_start, rng)
        self._outliers: Outliers[N] = Outliers(
            resilience.outlier_detection,
            rng,
            ready=self._states.nodes["ready"],
            out=self._states.nodes["ejected"],
        )
        self._care = Care(resilience, self.in_flight, self._outliers, self._warming, rng, now)
        self._all = Group(EVERY, picker, self._care, self._states)
        self._groups: dict[Selector, Group[N]] = {EVERY: self._all}
        self.pick = self._all.pick  # not by way of a method here: each call comes this way
        self.pick_other = self._all.pick_other

    @property
    def nodes(self) -> Collection[N]:
        """All nodes, in order of endpoint id."""
        return [self._nodes[endpoint_id] for endpoint_id in self._want.by_id]

    # ---- for calls

    def group(self, selector: Selector = EVERY) -> Group[N]:
        """The nodes that `selector` takes; `adopt` has made them a group."""
        return self._groups[selector]

    @property
    def next_try(self) -> float | None:
        """When an ejected node will be tried again, if that is all that some calls can wait for."""
        tries = (group.next_try for group in self._groups.values())
        return min((at for at in tries if at is not None), default=None)

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

    def adopt(self, picker: Picker, selector: Selector = EVERY) -> None:
        """Let another policy choose from now on; what the nodes have learnt stays.

        Args:
            picker: the policy at work.
            selector: among whom; they become a group if they are none.
        """
        if selector in self._groups:
            self._groups[selector].adopt(picker)
            return
        group = self._groups[selector] = Group(selector, picker, self._care, ByState())
        for node in self._nodes.values():
            if selector.takes(node.endpoint):
                group.put_in(node, self._states.of(node))

    def dissolve(self, selector: Selector) -> None:
        """Nobody picks from that group any more; its nodes stay in others."""
        del self._groups[selector]

    def configure(self, resilience: Resilience) -> None:
        """Let other rules hold around the policy's choice from now on; who is ejected stays so."""
        self._care.resilience = resilience
        self._outliers.detection = resilience.outlier_detection
        self._warming.slow_start = resilience.slow_start
        for group in self._groups.values():
            group.renew()

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

    def _put_in(self, node: N) -> None:
        state = self._state_for(node)
        for group in self._groups_of(node):
            group.put_in(node, state)
        if state == "ejected":
            self._outliers.expect(node)

    def _take_out(self, node: N) -> None:
        for group in self._groups_of(node):
            group.take_out(node)

    def _groups_of(self, node: N) -> Iterator[Group[N]]:
        return (group for group in self._groups.values() if group.selector.takes(node.endpoint))

    def _state_for(self, node: N) -> str:
        readiness = self._readiness[node.endpoint.id]
        if readiness is not Readiness.READY:
            return readiness
        if node.endpoint.weight == 0:
            return "parked"
        if node.endpoint.state is State.DRAINING:
            return "draining"
        return "ejected" if node in self._outliers.ejected else "ready"
