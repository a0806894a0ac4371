"""One service at one moment as resources, for all who ask."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from functools import cached_property
from types import MappingProxyType
from typing import Any, Final, NamedTuple, final

from meshkit.balancer import Maglev, RingHash, Selector, Sticky
from meshkit.balancer.locality import Capacity
from meshkit.endpoint import EndpointSet
from meshkit.service_config import DEFAULTS, ServiceConfig, merge
from meshkit.xds.clusters import cluster
from meshkit.xds.endpoints import Grouping, assignment, is_leaving
from meshkit.xds.listeners import listener_of_name
from meshkit.xds.names import Family, cluster_name
from meshkit.xds.resources import CLUSTER, ENDPOINT, LISTENER, ROUTE, Resource
from meshkit.xds.routes import route_to, selectors_of, virtual_host

__all__ = ["Audience", "Translation"]

_NO_HOSTS: Final[Mapping[str, str]] = MappingProxyType({})


class Audience(NamedTuple):
    """Clients that get the same answers.

    Attributes:
        family: their kind.
        zone: where they run; empty: they do not say.
    """

    family: Family
    zone: str = ""


@final
class Translation:
    """The resources of a service; each is made when somebody first asks for it.

    Args:
        service: its name.
        endpoints: all of them.
        config: what is published for it; None: nothing.
        hosts: the IP of each host name among the addresses.
        lingering: subsets that routes named a moment ago: what clients still use must not end
            before they know better.

    Attributes:
        service: its name.
    """

    def __init__(
        self,
        service: str,
        endpoints: EndpointSet,
        config: ServiceConfig | None = None,
        hosts: Mapping[str, str] = _NO_HOSTS,
        lingering: Iterable[Selector] = (),
    ) -> None:
        self.service: Final = service
        self._lingering = tuple(lingering)
        self._endpoints = endpoints
        self._has_outliers = config is not None and config.outlier_detection is not None
        self._config = merge({"registry": config, "defaults": DEFAULTS}).config
        self._hosts = hosts
        self._made: dict[tuple[str, str, Audience], Resource | None] = {}

    @cached_property
    def clusters(self) -> Mapping[str, Selector]:
        """Which endpoints each cluster of the service has."""
        selectors = (*selectors_of(self._config), *self._lingering)
        return {cluster_name(self.service, selector): selector for selector in selectors}

    @property
    def is_empty(self) -> bool:
        """Whether it has no endpoints."""
        return not len(self._endpoints)

    def find(self, type_url: str, name: str, audience: Audience) -> Resource | None:
        """The resource of that type and name; None: there is none."""
        key = (type_url, name, audience)
        if key not in self._made:
            message = self._make(type_url, name, audience)
            self._made[key] = None if message is None else Resource.of(name, message)
        return self._made[key]

    def virtual_host(self, family: Family) -> Any:
        """The routes of this service, among those of others."""
        serving = [endpoint for endpoint in self._endpoints if not is_leaving(endpoint)]
        known = {
            selector
            for selector in self.clusters.values()
            if any(selector.takes(endpoint) for endpoint in serving)
        }
        return virtual_host(self.service, self._config, known, family)

    def _make(self, type_url: str, name: str, audience: Audience) -> Any:
        if name in self.clusters:
            if type_url == CLUSTER:
                zoned = self._shares(audience.zone) is not None
                return cluster(name, self._config_of(audience.family), audience.family, zoned=zoned)
            if type_url == ENDPOINT:
                return self._assignment(name, audience)
        if name == self.service:
            if type_url == ROUTE:
                return route_to(name, self.virtual_host(audience.family))
            if type_url == LISTENER and audience.family is Family.GRPC:
                return listener_of_name(name)
        return None

    def _config_of(self, family: Family) -> ServiceConfig:
        """What holds for the clusters of a family.

        gRPC's clients hold each status but OK against an endpoint, NOT_FOUND included (gRFC A50),
        so that they judge only if somebody has chosen that.
        """
        if family is Family.GRPC and not self._has_outliers:
            return dataclasses.replace(self._config, outlier_detection=None)
        return self._config

    def _assignment(self, name: str, audience: Audience) -> Any:
        selector = self.clusters[name]
        return assignment(
            name,
            (endpoint for endpoint in self._endpoints if selector.takes(endpoint)),
            self._grouping(audience.family),
            self._hosts,
            self._shares(audience.zone),
        )

    def _grouping(self, family: Family) -> Grouping:
        if isinstance(self._config.load_balancing_config, RingHash | Maglev | Sticky):
            # gRPC multiplies the weights of localities and endpoints for its ring (gRFC A42).
            return Grouping(by_zone=False, by_weight=False)
        return Grouping(by_zone=True, by_weight=family is Family.GRPC)

    def _shares(self, zone: str) -> Mapping[str, float] | None:
        """What part of their calls clients in `zone` send to each zone; None: zones are as one."""
        zone_aware, capacity = self._config.zone_aware, self._capacity
        if not zone or zone_aware is None or capacity.count < zone_aware.min_cluster_size:
            return None
        ready = dict.fromkeys(capacity.weights, 1.0)  # clients see for themselves who is
        return zone_aware.shares(zone, capacity.weights, ready) or None

    @cached_property
    def _capacity(self) -> Capacity:
        found = Capacity()
        found.know(self._endpoints)
        return found
