"""Zones: calls stay in the client's own as long as it can take them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, final

from meshkit.endpoint import Endpoint, EndpointSet, State
from meshkit.fields import Integer, Number, check

__all__ = ["Capacity", "ZoneAware"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ZoneAware:
    """How a client that knows its zone prefers endpoints there; numbers and names are Envoy's.

    Envoy compares a zone's share of the clients with its share of the servers. Our clients do not
    know each other, so they are taken to be spread evenly over the zones that have servers: each
    zone has to take the same number of calls, its *part*. A zone that can take its part keeps all
    its calls; otherwise so many as it can take, and the others go where there is room, as much as
    there is, and beyond that to all in proportion to what they can take. A zone can take as much as
    its weights say, and less when too few of them are ready: the share that is, times
    `overprovisioning_factor`. Clients of a zone without servers use all others in proportion.

    Nothing but who is there and ready decides, not load or latency: it cannot swing.

    Attributes:
        min_cluster_size: where the service has fewer endpoints, zones are not told apart.
        overprovisioning_factor: by how much servers may be loaded above their part when others of
            their zone fail. With 1.4 a zone keeps all its calls until more than 28 % have failed.
    """

    min_cluster_size: Annotated[int, Integer(1)] = 6
    overprovisioning_factor: Annotated[float, Number(1)] = 1.4

    def __post_init__(self) -> None:
        check(self)

    def shares(
        self, own: str, fleet: Mapping[str, int], health: Mapping[str, float]
    ) -> dict[str, float]:
        """Which share of a client's calls each zone gets; 1.0 in all, or nothing if none is ready.

        Args:
            own: the client's zone.
            fleet: the weight of each zone's endpoints that are to take calls.
            health: which share of those is ready.
        """
        room = {
            zone: weight * min(1.0, self.overprovisioning_factor * health.get(zone, 0.0))
            for zone, weight in fleet.items()
        }
        part = sum(fleet.values()) / max(1, len(fleet))
        here = min(part, room.pop(own, 0.0))
        spare = {zone: max(0.0, most - part) for zone, most in room.items()}
        if own not in fleet:  # nothing to go by
            spare = dict.fromkeys(room, 0.0)
        elsewhere, spared = sum(room.values()), sum(spare.values())
        if not elsewhere:
            return {own: 1.0} if here else {}
        left = part - here
        filled = min(1.0, left / spared) if spared else 0.0  # of what others can spare
        beyond = (left - filled * spared) / elsewhere
        taken = {zone: filled * spare[zone] + beyond * room[zone] for zone in room} | {own: here}
        return {zone: calls / part for zone, calls in taken.items() if calls}


@final
class Capacity:
    """What there is in each zone, of endpoints that are to take calls.

    Attributes:
        weights: the sum of weights in each zone that has any.
        count: endpoints in all.
    """

    def __init__(self) -> None:
        self.weights: Counter[str] = Counter()
        self.count = 0
        self._known = EndpointSet("")

    def know(self, endpoints: EndpointSet) -> None:
        """Count again, where something has changed."""
        delta = endpoints.since(self._known)
        for endpoint in delta.removed:
            self._count(endpoint, -1)
        for endpoint in delta.changed:
            self._count(self._known.by_id[endpoint.id], -1)
        for endpoint in (*delta.added, *delta.changed):
            self._count(endpoint, 1)
        self._known = endpoints
        self.weights = +self.weights  # without zones where there is nothing

    def _count(self, endpoint: Endpoint, sign: int) -> None:
        if endpoint.state is State.SERVING and endpoint.weight:
            self.weights[endpoint.zone] += sign * endpoint.weight
            self.count += sign
