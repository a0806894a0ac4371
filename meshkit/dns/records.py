"""The records of a service's endpoints. No I/O in here.

Endpoints that take no new calls are in none: whoever drains or has weight 0.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, final

import dns.exception
import dns.name
from dns import rdatatype
from dns.rdata import Rdata
from dns.rdataclass import IN
from dns.rdtypes.ANY.NS import NS
from dns.rdtypes.ANY.SOA import SOA
from dns.rdtypes.IN.A import A
from dns.rdtypes.IN.AAAA import AAAA
from dns.rdtypes.IN.SRV import SRV

from meshkit.dns.zone import IPAddress, Zone
from meshkit.endpoint import Endpoint, EndpointSet, State
from meshkit.registry.address import split_address

__all__ = ["Records", "address_record", "authority_records", "srv_weights"]

_PRIORITY: Final = 0
_SERIAL: Final = 1
_REFRESH, _RETRY, _EXPIRE = 60, 10, 600  # seconds; for secondaries, which we have none of
_STEP: Final = 256  # of an SRV weight makes 1 of HAProxy's
_HEAVIEST: Final = 256  # of HAProxy's weights


@final
@dataclass(frozen=True, slots=True)
class Records:
    """What the zone says of one service.

    Attributes:
        srv: host and port of each endpoint, with its weight.
        hosts: the addresses that `srv` points at, by name; not those that other zones know.
    """

    srv: tuple[SRV, ...]
    hosts: Mapping[dns.name.Name, IPAddress]

    @classmethod
    def of(cls, endpoints: EndpointSet, zone: Zone) -> Records:
        """The records of the endpoints that take new calls.

        An endpoint whose host is a name has an SRV record that points there.
        """
        targets = list(_targets(endpoints))
        weights = srv_weights([endpoint.weight for endpoint, _, _ in targets])
        srv: list[SRV] = []
        hosts: dict[dns.name.Name, IPAddress] = {}
        for (_, target, port), weight in zip(targets, weights, strict=True):
            if isinstance(target, dns.name.Name):
                name = target
            else:
                name = zone.host(target)
                hosts[name] = target
            srv.append(SRV(IN, rdatatype.SRV, _PRIORITY, weight, port, name))
        return cls(tuple(srv), hosts)

    def addresses(self, version: int) -> list[Rdata]:
        """The A records of `srv`'s hosts for version 4, the AAAA records for 6."""
        found = (address for address in self.hosts.values() if address.version == version)
        return [address_record(address) for address in found]


def _targets(
    endpoints: Iterable[Endpoint],
) -> Iterable[tuple[Endpoint, IPAddress | dns.name.Name, int]]:
    for endpoint in endpoints:
        if endpoint.state is not State.SERVING or not endpoint.weight:
            continue
        try:
            host, port = split_address(endpoint.address)
            yield endpoint, _target(host), port
        except (ValueError, dns.exception.DNSException):
            continue  # nothing that DNS could say


def _target(host: str) -> IPAddress | dns.name.Name:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return dns.name.from_text(host)


def address_record(address: IPAddress) -> Rdata:
    """The record of an address."""
    if address.version == 4:
        return A(IN, rdatatype.A, str(address))
    return AAAA(IN, rdatatype.AAAA, str(address))


def authority_records(zone: Zone, ttl: int) -> tuple[SOA, NS]:
    """Who answers for the zone; `ttl` is how many seconds "there is no such name" holds."""
    times = (_REFRESH, _RETRY, _EXPIRE, ttl)
    soa = SOA(IN, rdatatype.SOA, zone.server, zone.contact, _SERIAL, *times)
    return soa, NS(IN, rdatatype.NS, zone.server)


def srv_weights(weights: Sequence[int]) -> list[int]:
    """Weights of SRV records, 1 to 65535, in proportion to those given, 1 or more.

    HAProxy makes 1 to 256 of them, `ceil(weight / 256)`: 30 and 10 as they are would be one weight.
    Source: HAProxy `src/resolvers.c`.
    """
    scale = max(1.0, max(weights, default=1) / _HEAVIEST)
    return [max(1, round(weight / scale)) * _STEP - 1 for weight in weights]
