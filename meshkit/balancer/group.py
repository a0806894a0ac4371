"""Some nodes of a service, and which of them takes a call."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter
from typing import Final, Generic, TypeVar, final

from meshkit.balancer.circuit import InFlight
from meshkit.balancer.outlier import Outliers
from meshkit.balancer.policies.policy import ByKey, Clock, Node, Picker, PickInfo, id_of
from meshkit.balancer.resilience import Resilience
from meshkit.balancer.selector import Selector
from meshkit.balancer.shown import Shown
from meshkit.balancer.slow_start import Warming
from meshkit.balancer.states import ByState, Counts

__all__ = ["Care", "Group"]

N = TypeVar("N", bound=Node)

_DRAWS: Final = 3  # times that the policy is asked for another node, before anybody else will do
_pending_of: Final = attrgetter("pending")


@final
@dataclass(slots=True)
class Care(Generic[N]):
    """What all groups of a service look at around the choice of their policy.

    Attributes:
        resilience: the rules.
        in_flight: the calls to all nodes.
        outliers: who is ejected.
        warming: who is growing into its share.
        rng: the die.
        now: the clock, in seconds; read by no pick where all nodes are well and limits are off.
    """

    resilience: Resilience
    in_flight: InFlight
    outliers: Outliers[N]
    warming: Warming[N]
    rng: random.Random
    now: Clock

    def has_room(self, node: N) -> bool:
        """Whether `node` can take another call."""
        return not self.resilience.circuit_breaker.is_full(node.pending)


@final
class Group(Generic[N]):
    """The nodes that a selector takes, and a policy's picker that chooses among them.

    Args:
        picker: the policy at work.
        states: those nodes, by state.

    Attributes:
        selector: which nodes these are.
        states: those nodes, by state.
    """

    def __init__(
        self, selector: Selector, picker: Picker, care: Care[N], states: ByState[N]
    ) -> None:
        self.selector = selector
        self.states = states
        self._care = care
        self._pickable: tuple[N, ...] = ()  # empty: none, or to be made anew
        self._is_careful = True  # the policy's choice is not all there is to a pick
        self.adopt(picker)

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
        return next(filter(self._care.has_room, self._some_others(tried)), node)

    def _pick_carefully(self, pickable: tuple[N, ...], info: PickInfo) -> N | None:
        care = self._care
        if care.resilience.circuit_breaker.is_open(care.in_flight.pending):
            return None
        now = care.now()
        if (probed := care.outliers.due(now, self.selector)) is not None:
            return probed
        if not pickable:
            return None
        node = self._picker.pick(pickable, info)
        if self._may_take(node, now):
            return node
        if others := [n for n in self._some_others((node,)) if self._may_take(n, now)]:
            return min(others, key=_pending_of)
        if care.has_room(node):
            return node
        free = [node for node in pickable if care.has_room(node)]
        return care.rng.choice(free) if free else None

    def _may_take(self, node: N, now: float) -> bool:
        care = self._care
        return care.has_room(node) and (self._is_by_key or care.warming.admits(node, now))

    def _some_others(self, tried: Collection[N]) -> Iterator[N]:
        """Up to two nodes more than were tried at random, without those; one, if there is any."""
        pickable = self._pickable
        places = self._care.rng.sample(range(len(pickable)), min(len(tried) + 2, len(pickable)))
        return (pickable[place] for place in places if pickable[place] not in tried)

    @property
    def is_usable(self) -> bool:
        """Whether calls are best sent here: somebody can take one, or will as soon as connected.

        Not so if all are failing, parked or ejected; unless one of those ejected has to be tried.
        """
        nodes, care = self.states.nodes, self._care
        if nodes["ready"] or nodes["draining"] or nodes["connecting"]:
            return True
        return bool(nodes["ejected"]) and care.outliers.is_due(care.now(), self.selector)

    def refusal(self) -> str:
        """Which limit keeps calls from connected nodes, in words; "" if there is no such node."""
        if not self._pickable:
            return ""
        care = self._care
        return care.resilience.circuit_breaker.refusal(care.in_flight.pending)

    @property
    def next_try(self) -> float | None:
        """When an ejected node will be tried again, if that is all that calls can wait for."""
        out = self.states.nodes["ejected"]
        if not out or self._pickable or self._choice():
            return None
        return min(self._care.outliers.ejected[node] for node in out)

    def counts(self) -> Counts:
        """How many nodes are in which state, now."""
        return self.states.counts()

    # ---- for what changes

    def adopt(self, picker: Picker) -> None:
        """Let another policy choose from now on."""
        self._picker = picker
        self._is_by_key = isinstance(picker, ByKey)
        self._shown: Shown[N] = Shown(picker)
        self._pickable = ()

    def renew(self) -> None:
        """Other rules hold: find out anew who may be picked."""
        self._pickable = ()

    def put_in(self, node: N, state: str) -> None:
        """A node has come into a state."""
        self.states.put(node, state)
        self._shown.add(node, state)
        self._pickable = ()

    def take_out(self, node: N) -> None:
        """A node has left its state."""
        self._shown.remove(node, self.states.take(node))
        self._pickable = ()

    def _choice(self) -> tuple[N, ...]:
        """Those to pick from, kept until another comes or goes; a draining one beats none."""
        resilience = self._care.resilience
        ready, ejected = self.states.nodes["ready"], self.states.nodes["ejected"]
        states: tuple[str, ...] = ("ready" if ready else "draining",)
        nodes = self.states.nodes[states[0]]
        if ejected and resilience.outlier_detection.is_panic(len(ready), len(ejected)):
            states = (*states, "ejected")
            nodes = sorted(chain(nodes, ejected), key=id_of)
        self._pickable = self._shown.update(nodes, states)
        is_warming = bool(self._care.warming) and not self._is_by_key
        self._is_careful = bool(ejected or is_warming or resilience.circuit_breaker.is_on)
        return self._pickable
