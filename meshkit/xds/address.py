"""Addresses in xDS: an IP and a port, apart."""

from __future__ import annotations

import ipaddress

from meshkit.errors import ConfigError
from meshkit.registry.address import split_address

__all__ = ["host_and_port", "is_ip"]


def host_and_port(address: str) -> tuple[str, int]:
    """IP and port of an address to listen on.

    Raises:
        ConfigError: it is none; host names cannot be listened on.
    """
    try:
        host, port = split_address(address)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    if not is_ip(host):
        raise ConfigError(f"{address!r}: to listen, an IP is needed, such as 127.0.0.1 or 0.0.0.0")
    return host, port


def is_ip(host: str) -> bool:
    """Whether `host` is an IP rather than a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
