"""Which connections there are for a call: those of its route's destination, else all."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, TypeAlias, final

from meshkit.balancer import EVERY, Balancer, Clock, Counts, Group, Selection, Selector
from meshkit.client.configuration import Configuration
from meshkit.client.subchannel import Subchannel
from meshkit.endpoint import Endpoint
from meshkit.service_config import route_for

if TYPE_CHECKING:
    from meshkit.client.journey import Journey

__all__ = ["Router"]

_Pick: TypeAlias = "Callable[[Journey], Subchannel | None]"
_PickOther: TypeAlias = "Callable[[Journey, Collection[Subchannel]], Subchannel | None]"


@final
class Router:
    """Keeps a group of connections for each destination, and finds the one for a call.

    Without routes there is one group, and calls go there without a detour.

    Args:
        zone: where the client is.
        connect: makes the connection to an endpoint.

    Attributes:
        selection: which endpoints we connect to.
        balancer: the connections, and which of them may be picked.
        pick: the connection for a call; None while there is none.
        pick_other: the same for another attempt of a call; elsewhere, if that is possible.
    """

    def __init__(
        self,
        service: str,
        configuration: Configuration,
        zone: str,
        connect: Callable[[Endpoint], Subchannel],
        rng: random.Random,
        now: Clock,
    ) -> None:
        self._configuration = known = configuration
        self._rng = rng
        self._rules = known.policy, known.zone_aware
        self.selection = Selection(known.subset, zone, known.zone_aware, rng, now)
        self.balancer: Balancer[Subchannel] = Balancer(
            service,
            make_node=connect,
            picker=self.selection.picker(known.policy),
            rng=rng,
            now=now,
            resilience=known.resilience,
        )
        self.configure()

    def configure(self) -> None:
        """Do from now on as the configuration says; calls under way keep what they had."""
        known = self._configuration
        self.selection.configure(known.subset, known.zone_aware)
        self._divide({to.selector for route in known.routes for to in route.destinations})
        self.balancer.configure(known.resilience)
        self._routes = known.routes
        self.pick: _Pick = self.balancer.pick
        self.pick_other: _PickOther = self.balancer.pick_other
        if self._routes:
            self.pick = self._pick
            self.pick_other = self._pick_other

    def _divide(self, selectors: set[Selector]) -> None:
        """Have a group for each of these, and one of all; those that stay keep their picker."""
        rules = self._configuration.policy, self._configuration.zone_aware
        before = set(self.selection.selectors)
        for selector in before - selectors - {EVERY}:
            self.selection.forget(selector)
            self.balancer.dissolve(selector)
        kept = before if rules == self._rules else set()
        for selector in (selectors | {EVERY}) - kept:
            self.balancer.adopt(self.selection.picker(rules[0], selector), selector)
        self._rules = rules

    def destinations(self) -> dict[str, Counts]:
        """How many connections each destination has, by state."""
        found = {to.selector: None for route in self._routes for to in route.destinations}
        return {str(selector): self.balancer.group(selector).counts() for selector in found}

    # ---- for calls

    def group_of(self, call: Journey) -> Group[Subchannel]:
        """The connections that a call may be put on.

        It is asked again for each attempt, and says the same as long as rules and endpoints do.
        """
        route = route_for(self._routes, call.path, call.metadata)
        if route is None:
            return self.balancer.group()
        if call.point is None:
            call.point = route.draw(call, self._rng.getrandbits)
        return self.balancer.group(route.choose(call.point, self._is_usable))

    def _is_usable(self, selector: Selector) -> bool:
        return self.balancer.group(selector).is_usable

    def _pick(self, call: Journey) -> Subchannel | None:
        return self.group_of(call).pick(call)

    def _pick_other(self, call: Journey, tried: Collection[Subchannel]) -> Subchannel | None:
        return self.group_of(call).pick_other(call, tried)
