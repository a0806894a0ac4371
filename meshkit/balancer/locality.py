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
    there is. A zone can take as much as its weights say, and less when too few of them are ready:
    the share that is, times `overprovisioning_factor`. What is beyond all room goes to those that
    can be loaded above their part, by that factor, and what is still left to all that are ready.
    Clients of a zone without servers use all others in proportion.

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
        ready = {zone: weight * health.get(zone, 0.0) for zone, weight in fleet.items()}
        most = {zone: self.overprovisioning_factor * weight for zone, weight in ready.items()}
        room = {zone: min(weight, most[zone]) for zone, weight in fleet.items()}
        if not any(ready.values()):
            return {}
        if own not in fleet:  # nothing to go by
            return _proportions(room)
        part = sum(fleet.values()) / len(fleet)
        taken = dict.fromkeys(fleet, 0.0) | {own: min(part, room[own])}
        left = part - taken[own]
        spare = {zone: max(0.0, room[zone] - part) for zone in fleet if zone != own}
        strain = {zone: most[zone] - room[zone] for zone in fleet}
        for further in (spare, strain):
            filled = min(left, sum(further.values()))
            for zone, share in _proportions(further).items():
                taken[zone] += filled * share
            left -= filled
        for zone, share in _proportions(ready).items():
            taken[zone] += left * share
        return {zone: calls / part for zone, calls in taken.items() if calls}


def _proportions(weights: Mapping[str, float]) -> dict[str, float]:
    """Those above 0, as parts of their sum."""
    total = sum(weights.values())
    return {zone: weight / total for zone, weight in weights.items() if weight}


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
