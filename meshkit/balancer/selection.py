"""Which endpoints of a service one client uses, and which of them it prefers."""

from __future__ import annotations

import random
from collections.abc import Collection
from typing import final

from meshkit.balancer.locality import ZoneAware
from meshkit.balancer.policies.policy import Clock, Picker, Policy
from meshkit.balancer.selector import EVERY, Selected, Selector
from meshkit.balancer.subset import Subset
from meshkit.balancer.zoned import ZonePicker, zone_picker
from meshkit.endpoint import EndpointSet

__all__ = ["Selection"]


@final
class Selection:
    """Between what the registry knows and the balancer: subsets and zones.

    Each group that routes send calls to has a subset of its own, and zones of its own: a few of all
    endpoints may be none of a canary.

    Args:
        subset: how many endpoints to connect to; None: all.
        zone: where the client is; "": zones are not told apart.
        zone_aware: how the own zone is preferred.
        rng: the die.
        now: the clock.

    Attributes:
        known: all endpoints of the service.
    """

    def __init__(
        self, subset: int | None, zone: str, zone_aware: ZoneAware, rng: random.Random, now: Clock
    ) -> None:
        self.known = EndpointSet("")
        self._connected = self.known
        self._zone = zone
        self._rng = rng
        self._now = now
        self._parts = {EVERY: _Part(EVERY)}
        self.configure(subset, zone_aware)

    def configure(self, subset: int | None, zone_aware: ZoneAware) -> None:
        """From the next set and the next picker on, choose by other rules.

        A subset that grows or shrinks keeps those it can.
        """
        self._size = subset
        self._zone_aware = zone_aware

    def picker(self, policy: Policy, selector: Selector = EVERY) -> Picker:
        """The picker of `policy` for those that `selector` takes, from now on with zones around it.

        From the next set on, some of those are connected to.
        """
        part = self._parts.setdefault(selector, _Part(selector))
        if not self._zone:
            return policy.picker(self._rng, self._now)
        part.zones = zone_picker(policy, self._zone, self._zone_aware, self._rng, self._now)
        part.know(self.known, self._connected)
        return part.zones

    def forget(self, selector: Selector) -> None:
        """No group needs those that `selector` takes any more."""
        del self._parts[selector]

    def of(self, endpoints: EndpointSet) -> EndpointSet:
        """Those of all endpoints to connect to."""
        self.known = endpoints
        self._connected = endpoints
        if self._size is not None:
            self._connected = self._some(endpoints, self._size)
        for part in self._parts.values():
            part.know(endpoints, self._connected)
        return self._connected

    def _some(self, endpoints: EndpointSet, size: int) -> EndpointSet:
        """So many of each part."""
        chosen, *others = (
            part.some(endpoints, size, self._zone, self._rng) for part in self._parts.values()
        )
        put = {i: e for other in others for i, e in other.by_id.items() if i not in chosen.by_id}
        return chosen.with_changes(put, (), revision=endpoints.revision)

    def zone_shares(self) -> dict[str, float]:
        """Which share of the calls each zone gets; nothing while zones are not told apart.

        Of calls that no route sends to a group.
        """
        zones = self._parts[EVERY].zones
        return zones.shares() if zones is not None else {}

    @property
    def selectors(self) -> Collection[Selector]:
        """Those that have had a picker, and have not been forgotten."""
        return self._parts.keys()


@final
class _Part:
    """Those that a selector takes.

    Attributes:
        zones: the picker around their policy, in a client with a zone.
    """

    def __init__(self, selector: Selector) -> None:
        self.zones: ZonePicker | None = None
        self._subset: Subset | None = None
        self._fleet = Selected(selector)
        self._connected = Selected(selector)

    def some(self, endpoints: EndpointSet, size: int, zone: str, rng: random.Random) -> EndpointSet:
        """So many of them."""
        if self._subset is None:
            self._subset = Subset(size, zone, rng)
        self._subset.size = size
        return self._subset.of(self._fleet.of(endpoints))

    def know(self, endpoints: EndpointSet, connected: EndpointSet) -> None:
        """Take note of all endpoints of the service, and of those that we connect to."""
        if self.zones is not None:
            self.zones.know(self._fleet.of(endpoints), self._connected.of(connected))
