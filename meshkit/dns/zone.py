"""What the names of the zone stand for. No I/O in here.

```text
_hello_service._tcp.mesh.local        SRV: host and port of each endpoint (RFC 2782)
_grpc._tcp.hello_service.mesh.local   the same, as Kubernetes and nginx write it
hello_service.mesh.local              A, AAAA: the hosts alone; SRV as above
0a000005.addr.mesh.local              the host 10.0.0.5: what SRV records point at
mesh.local                            SOA, NS
```
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Final, TypeAlias, final

import dns.exception
import dns.name

from meshkit.errors import ConfigError

__all__ = ["APEX", "BETWEEN", "HostName", "Meaning", "ServiceName", "Zone"]

IPAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

_TCP: Final = "_tcp"
_GRPC: Final = "_grpc"
_LONGEST: Final = ipaddress.IPv6Address(0)
_PACKED: Final = re.compile(r"[0-9a-f]{8}|[0-9a-f]{32}")  # IPv4, IPv6


@final
@dataclass(frozen=True, slots=True)
class ServiceName:
    """The endpoints of a service; with `has_addresses` they are asked for by A and AAAA, too."""

    service: str
    has_addresses: bool


@final
@dataclass(frozen=True, slots=True)
class HostName:
    """One address."""

    address: IPAddress


@final
@dataclass(frozen=True, slots=True)
class _Bare:
    """A name without records of endpoints."""

    what: str


APEX: Final = _Bare("the zone itself")
BETWEEN: Final = _Bare("a name that has nothing but names below it")

Meaning: TypeAlias = ServiceName | HostName | _Bare


@final
class Zone:
    """A domain, and what each name in it means.

    Args:
        domain: the domain's name, `mesh.local`.

    Raises:
        ConfigError: that is no name of a domain.
    """

    def __init__(self, domain: str) -> None:
        try:
            self.origin: Final = dns.name.from_text(domain)
            self.server: Final = dns.name.from_text("ns", self.origin)
            self.contact: Final = dns.name.from_text("hostmaster", self.origin)
            self._hosts: Final = dns.name.from_text("addr", self.origin)
            self.host(_LONGEST)
        except (dns.exception.DNSException, UnicodeError) as error:
            raise ConfigError(f"zone {domain!r} is no name of a domain: {error}") from error
        if self.origin == dns.name.root:
            raise ConfigError("the zone is a domain, such as mesh.local, not all of DNS")

    def __contains__(self, name: dns.name.Name) -> bool:
        return name.is_subdomain(self.origin)

    def meaning(self, name: dns.name.Name) -> Meaning | None:
        """What a name of this zone stands for; None if it can be nothing. Capitals do not count."""
        try:
            labels = [
                label.decode("ascii").lower() for label in name.relativize(self.origin).labels
            ]
        except UnicodeDecodeError:
            return None
        if not labels:
            return APEX
        if any("." in label for label in labels):
            return None
        return _service(labels) if _TCP in labels else _plain(labels)

    def host(self, address: IPAddress) -> dns.name.Name:
        """The name of an address."""
        return dns.name.Name([address.packed.hex().encode(), *self._hosts.labels])


def _service(labels: list[str]) -> Meaning | None:
    """`_hello._tcp` and `_grpc._tcp.hello`; a service of several labels goes as it stands."""
    at = labels.index(_TCP)
    before, after = labels[:at], labels[at + 1 :]
    if not before:
        return BETWEEN
    if not after and before[0].startswith("_"):
        return ServiceName(".".join(before)[1:], has_addresses=False)
    if after and before == [_GRPC]:
        return ServiceName(".".join(after), has_addresses=False)
    return None


def _plain(labels: list[str]) -> Meaning | None:
    match labels:
        case ["addr"]:
            return BETWEEN
        case [*rest, "addr"]:
            is_host = len(rest) == 1 and _PACKED.fullmatch(rest[0])
            return HostName(ipaddress.ip_address(bytes.fromhex(rest[0]))) if is_host else None
    return ServiceName(".".join(labels), has_addresses=True)
