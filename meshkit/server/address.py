"""Where a server listens, and which address it gives to others."""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias, final

from meshkit.errors import ConfigError

__all__ = ["Address", "Peer", "Place", "check_advertise", "find_place"]

Peer: TypeAlias = "tuple[str, int] | None"

_ADDRESS: Final = re.compile(r"(\[(?P<v6>[^]]+)]|(?P<host>[^][\s:/]+))(:(?P<port>[0-9]{1,5}))?")
# TEST-NET-1 (RFC 5737) is nobody's address: the way to it is the default route.
_ANYWHERE: Final = ("192.0.2.1", 9)


@final
@dataclass(frozen=True, slots=True)
class Address:
    """A host and a port; `port` None if it was not said."""

    host: str
    port: int | None = None

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read `host`, `host:port`, `[v6]`, `[v6]:port` or a bare IPv6 address.

        Raises:
            ConfigError: it is none of these.
        """
        text = text.strip()
        if _ip(text) is not None:
            return cls(text)
        match = _ADDRESS.fullmatch(text)
        if match is None or not 0 < int(match["port"] or 1) < 1 << 16:
            raise ConfigError(f"{text!r} is not an address; write host, host:port or [v6]:port")
        return cls(match["v6"] or match["host"], int(match["port"]) if match["port"] else None)

    def with_port(self, port: int) -> Address:
        """This address; with `port` if it had none."""
        return self if self.port is not None else Address(self.host, port)

    @property
    def is_wildcard(self) -> bool:
        """True for `0.0.0.0`, `::` and `*`: good to listen on, not to be dialled."""
        ip = _ip(self.host)
        return ip.is_unspecified if ip is not None else self.host == "*"

    @property
    def is_loopback(self) -> bool:
        """True if only this machine can dial it."""
        ip = _ip(self.host)
        return ip.is_loopback if ip is not None else self.host.lower() == "localhost"

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port is None else f"{host}:{self.port}"


@final
@dataclass(frozen=True, slots=True)
class Place:
    """Where to listen, and what to announce (its port is known once bound)."""

    bind: str
    advertise: Address


async def find_place(
    peer: Peer,
    *,
    host: str | None = None,
    advertise: str | None = None,
    environment: str | None = None,
    allow_remote: bool = False,
) -> Place:
    """Choose where to listen and what to announce.

    Announced is the first of: `advertise`, `environment`, `host` if it is a real one, the address
    that this machine has on its way to the registry. Listens on `host`; without one on the
    loopback if that is what is announced, else on all interfaces.

    Args:
        peer: host and port of the registry; None if it serves this machine only.
        host: to listen on.
        advertise: `host` or `host:port` to announce.
        environment: the same, from the environment.
        allow_remote: a registry of this machine only may hold addresses of other machines.

    Raises:
        ConfigError: the address could not be dialled by those who will find it.
    """
    listen = Address.parse(host) if host else None
    announced, source = await _announced(peer, listen, advertise, environment)
    _refuse_wildcard(announced, source)
    if peer is None and not allow_remote and not announced.is_loopback:
        raise ConfigError(
            f"{source} is {announced}, but the registry serves this machine only, so nobody "
            "elsewhere would find it. Use a registry that is shared (etcd://host:2379), "
            "or a loopback address"
        )
    if peer is not None and announced.is_loopback and not await _is_here(peer):
        raise ConfigError(
            f"{source} is {announced}, but the registry is at {Address(*peer)}: clients on other "
            "machines could not dial it. Give the address of this machine: advertise='10.0.0.5'"
        )
    return Place(str(listen) if listen else _bind_for(announced), announced)


def check_advertise(text: str) -> None:
    """Check what can be checked of an address to announce before it is known to whom.

    Raises:
        ConfigError: it is no address, or one that nobody can dial.
    """
    _refuse_wildcard(Address.parse(text), "advertise")


def _refuse_wildcard(address: Address, source: str) -> None:
    if address.is_wildcard:
        raise ConfigError(
            f"{source} is {address}: that is no address others can dial. "
            "Give the address of this machine: advertise='10.0.0.5'"
        )


async def _announced(
    peer: Peer, listen: Address | None, advertise: str | None, environment: str | None
) -> tuple[Address, str]:
    if advertise:
        return Address.parse(advertise), "advertise"
    if environment:
        return Address.parse(environment), "the advertised address of the mesh"
    if listen is not None and not listen.is_wildcard:
        return Address(listen.host), "host"
    if peer is None:
        return Address("127.0.0.1"), "the advertised address"
    for target in (peer, _ANYWHERE):
        for source, _ in await _routes(target):
            return Address(source), "the advertised address"
    raise ConfigError(
        f"there is no route to the registry at {Address(*peer)} that tells which address this "
        "machine has. Give it: advertise='10.0.0.5'"
    )


def _bind_for(announced: Address) -> str:
    if announced.is_loopback:
        return str(Address(announced.host if _ip(announced.host) else "127.0.0.1"))
    return "[::]" if ":" in announced.host else "0.0.0.0"  # noqa: S104 -- others shall reach it


async def _is_here(peer: tuple[str, int]) -> bool:
    """True if the registry runs on this machine: the way to it ends where it begins."""
    return any(source == target for source, target in await _routes(peer))


async def _routes(peer: tuple[str, int]) -> Sequence[tuple[str, str]]:
    """The source and target addresses of the ways to `peer`; none if it is not to be found."""
    try:
        infos = await asyncio.get_running_loop().getaddrinfo(*peer, type=socket.SOCK_DGRAM)
    except OSError:
        return ()
    routes = []
    for family, kind, protocol, _, target in infos:
        try:
            # Connecting a datagram socket chooses the route and sends nothing.
            with socket.socket(family, kind, protocol) as probe:
                probe.connect(target)
                routes.append((str(probe.getsockname()[0]), str(target[0])))
        except OSError:
            continue  # no route in this family
    return routes


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
