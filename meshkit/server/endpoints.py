"""What a server announces: one endpoint for each of its services."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from meshkit.endpoint import Endpoint, fresh_id
from meshkit.server.address import Address
from meshkit.server.options import ServerOptions

__all__ = ["endpoints_of"]

# Seconds between pings that clients may send; `build` lets them come as often as every second.
_PINGS: Final = 5.0


def endpoints_of(
    services: Iterable[str], address: Address, options: ServerOptions
) -> tuple[Endpoint, ...]:
    """The endpoints of a server at `address`, all with one new id."""
    endpoint_id = fresh_id()
    return tuple(
        Endpoint(
            service=service,
            id=endpoint_id,
            address=str(address),
            weight=options.weight,
            zone=options.zone,
            version=options.version,
            keepalive=_PINGS,
            metadata=options.metadata,
        )
        for service in services
    )
