"""Addresses as people and registries write them: `host:port`, `[v6]:port`."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["split_address"]

_ADDRESS: Final = re.compile(
    r"""
    (?: \[ (?P<v6> [0-9a-fA-F:.]+ (?:%[\w.-]+)? ) \] | (?P<host> [^\s:/@,;=\[\]]+ ) )
    (?: : (?P<port> [0-9]{1,5} ) )?
    """,
    re.VERBOSE,
)
_MAX_LENGTH: Final = 300  # a DNS name has at most 253 characters
_MAX_PORT: Final = 65535


def split_address(text: str, *, default_port: int | None = None) -> tuple[str, int]:
    """Host (IPv6 without its brackets) and port of `text`.

    Raises:
        ValueError: it is no address; the text of the error does not repeat all of a long one.
    """
    match = _ADDRESS.fullmatch(text) if len(text) <= _MAX_LENGTH else None
    if match is None or not (match["v6"] or match["host"].isprintable()):
        raise ValueError(f"{text[:80]!r} is no address: need host:port, IPv6 as [::1]:port")
    port = int(match["port"]) if match["port"] else default_port
    if port is None:
        raise ValueError(f"{text[:80]!r} has no port: need host:port")
    if not 1 <= port <= _MAX_PORT:
        raise ValueError(f"port of {text[:80]!r} is out of 1..{_MAX_PORT}")
    return match["v6"] or match["host"], port
