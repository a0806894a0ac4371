"""Which endpoints of a service one client uses, and which of them it prefers."""

from __future__ import annotations

import random
from typing import final

from meshkit.balancer.locality import ZoneAware
from meshkit.balancer.policies.policy import Clock, Picker, Policy
from meshkit.balancer.subset import Subset
from meshkit.balancer.zoned import ZonePicker, zone_picker
from meshkit.endpoint import EndpointSet

__all__ = ["Selection"]


@final
class Selection:
    """Between what the registry knows and the balancer: subset and zones.

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
        self._subset: Subset | None = None
        self._zone = zone
        self._rng = rng
        self._now = now
        self._zones: ZonePicker | None = None
        self.configure(subset, zone_aware)

    def configure(self, subset: int | None, zone_aware: ZoneAware) -> None:
        """From the next set and the next picker on, choose by other rules.

        A subset that grows or shrinks keeps those it can.
        """
        self._zone_aware = zone_aware
        if subset is None:
            self._subset = None
        elif self._subset is None:
            self._subset = Subset(subset, self._zone, self._rng)
        else:
            self._subset.size = subset

    def picker(self, policy: Policy) -> Picker:
        """The picker of `policy`, from now on with zones around it."""
        if not self._zone:
            return policy.picker(self._rng, self._now)
        self._zones = zone_picker(policy, self._zone, self._zone_aware, self._rng, self._now)
        self._zones.know(self.known, self._connected)
        return self._zones

    def of(self, endpoints: EndpointSet) -> EndpointSet:
        """Those of all endpoints to connect to."""
        self.known = endpoints
        self._connected = endpoints if self._subset is None else self._subset.of(endpoints)
        if self._zones is not None:
            self._zones.know(endpoints, self._connected)
        return self._connected

    def zone_shares(self) -> dict[str, float]:
        """Which share of the calls each zone gets; nothing while zones are not told apart."""
        return self._zones.shares() if self._zones is not None else {}
