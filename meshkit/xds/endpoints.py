"""EDS: the endpoints of a cluster, in localities.

gRPC's round robin does not look at the weights of endpoints, only at those of localities: so
endpoints of one weight share a locality, and that has the sum. Envoy looks at both, and would
choose worse among few endpoints than among many: it gets a locality for each zone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

from envoy.config.core.v3.base_pb2 import Locality
from envoy.config.core.v3.health_check_pb2 import DRAINING
from envoy.config.endpoint.v3.endpoint_components_pb2 import LbEndpoint, LocalityLbEndpoints
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from google.protobuf.wrappers_pb2 import UInt32Value

from meshkit.endpoint import Endpoint, State
from meshkit.registry.address import split_address
from meshkit.xds.address import is_ip

__all__ = ["Grouping", "assignment", "hosts_of", "is_leaving"]

_DRAINING: Final = "draining"
_MAX_WEIGHT: Final = 2**32 - 1  # of a locality, and of all localities together
_ALL: Final = 1_000_000  # the weight of all localities together, where zones have shares


class Grouping(NamedTuple):
    """Which endpoints share a locality.

    Attributes:
        by_zone: those of one zone only.
        by_weight: those of one weight only.
    """

    by_zone: bool
    by_weight: bool

    def place(self, endpoint: Endpoint) -> tuple[str, str]:
        """Zone and sub-zone of `endpoint`."""
        zone = endpoint.zone if self.by_zone else ""
        if is_leaving(endpoint):
            return zone, _DRAINING
        return zone, f"w{endpoint.weight}" if self.by_weight else ""


def hosts_of(endpoints: Iterable[Endpoint]) -> frozenset[str]:
    """The host names among the addresses: xDS takes only IPs."""
    hosts = (split_address(endpoint.address)[0] for endpoint in endpoints)
    return frozenset(host for host in hosts if not _is_ip(host))


def assignment(
    name: str,
    endpoints: Iterable[Endpoint],
    grouping: Grouping,
    hosts: Mapping[str, str],
    shares: Mapping[str, float] | None = None,
) -> Any:
    """The `ClusterLoadAssignment` of a cluster.

    Who leaves, or has weight 0, is `DRAINING`: without new calls. An address is there once.

    Args:
        name: of the cluster.
        endpoints: of the cluster; those whose host has no IP are left out.
        grouping: which of them share a locality.
        hosts: the IP of each host name.
        shares: what part of the calls each zone gets; None: as much as its weights.
    """
    localities: dict[tuple[str, str], list[tuple[int, Any]]] = {}
    addresses = set()
    for endpoint in endpoints:
        host, port = split_address(endpoint.address)
        ip = host if _is_ip(host) else hosts.get(host)
        if ip is None or (ip, port) in addresses:
            continue
        addresses.add((ip, port))
        found = _lb_endpoint(ip, port, endpoint)
        localities.setdefault(grouping.place(endpoint), []).append((endpoint.weight, found))
    weights = _weights(localities, shares)
    return ClusterLoadAssignment(
        cluster_name=name,
        endpoints=[
            LocalityLbEndpoints(
                locality=Locality(zone=place[0], sub_zone=place[1]),
                lb_endpoints=[each for _, each in localities[place]],
                load_balancing_weight=UInt32Value(value=weights[place]),
            )
            for place in sorted(localities)
        ],
    )


def _weights(
    localities: Mapping[tuple[str, str], list[tuple[int, Any]]], shares: Mapping[str, float] | None
) -> dict[tuple[str, str], int]:
    """The weight of each locality: 1 or more, as one without is not used at all."""
    sums = {
        place: 0 if place[1] == _DRAINING else sum(weight for weight, _ in found)
        for place, found in localities.items()
    }
    total = sum(sums.values())
    if shares is None:
        scale = min(1.0, _MAX_WEIGHT / 2 / max(total, 1))
        return {place: max(1, round(weight * scale)) for place, weight in sums.items()}
    zones: dict[str, int] = {}
    for (zone, _), weight in sums.items():
        zones[zone] = zones.get(zone, 0) + weight
    return {
        (zone, sub): max(1, round(_ALL * shares.get(zone, 0.0) * weight / max(zones[zone], 1)))
        for (zone, sub), weight in sums.items()
    }


def is_leaving(endpoint: Endpoint) -> bool:
    """Whether `endpoint` takes no new calls."""
    return endpoint.state is State.DRAINING or endpoint.weight == 0


def _lb_endpoint(ip: str, port: int, endpoint: Endpoint) -> Any:
    weight = min(max(endpoint.weight, 1), _MAX_WEIGHT)
    found = LbEndpoint(load_balancing_weight=UInt32Value(value=weight))
    address = found.endpoint.address.socket_address
    address.address, address.port_value = ip, port
    if is_leaving(endpoint):
        found.health_status = DRAINING
    return found


@lru_cache(maxsize=65_536)
def _is_ip(host: str) -> bool:
    return is_ip(host)
