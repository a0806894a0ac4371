"""Who answers at an address: servers say which endpoints they are, clients compare.

A server dies, its lease still lives, and another server is started on its port: to a connection
that is made again they look the same. So a server of ours adds the endpoints that it has to the
metadata of its answer to a health check, and a client asks once on each connection.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from urllib.parse import quote, unquote

from meshkit.endpoint import Endpoint

__all__ = ["introduce", "stranger"]

_KEY: Final = "meshkit-endpoint"


def introduce(endpoints: Iterable[Endpoint]) -> tuple[tuple[str, str], ...]:
    """The metadata by which a server says that it is `endpoints`: `meshkit-endpoint: name/id`."""
    return tuple((_KEY, quote(f"{e.service}/{e.id}", safe="/:[]")) for e in endpoints)


def stranger(endpoint: Endpoint, metadata: Iterable[tuple[str, str | bytes]]) -> str:
    """Who answers instead of `endpoint`, in words; "" if it is the right one or does not say.

    Where the registry holds only addresses, as an id that is the address shows, the name of the
    service decides.

    Args:
        endpoint: who should be there.
        metadata: of the answer to a health check.
    """
    told = [unquote(str(value)) for key, value in metadata if key == _KEY]
    if endpoint.id == endpoint.address:
        is_right = any(who.startswith(f"{endpoint.service}/") for who in told)
    else:
        is_right = f"{endpoint.service}/{endpoint.id}" in told
    if is_right or not told:
        return ""
    now = ", ".join(told)
    return f"the endpoint at {endpoint.address} is now {now}, not {endpoint.service}/{endpoint.id}"
