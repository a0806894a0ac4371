"""The messages of both variants of the protocol, from and to what a stream's state knows.

Answers are put together from parts that are serialized already: messages are lists of fields.
"""

from __future__ import annotations

from typing import Any, Protocol, final

from envoy.service.discovery.v3.discovery_pb2 import (
    DeltaDiscoveryRequest,
    DeltaDiscoveryResponse,
    DiscoveryRequest,
    DiscoveryResponse,
)

from meshkit.xds.exchange import Answer, Change

__all__ = ["Delta", "StateOfTheWorld", "Variant"]


class Variant(Protocol):
    """State of the world, or delta."""

    @property
    def is_delta(self) -> bool:
        """Which one."""
        ...

    def read(self, message: bytes) -> Any:
        """A request."""
        ...

    def change(self, request: Any) -> Change:
        """What it says."""
        ...

    def write(self, answer: Answer) -> bytes:
        """The response."""
        ...


@final
class StateOfTheWorld:
    """Each request has all names; answers have all listeners and clusters."""

    is_delta = False

    def read(self, message: bytes) -> Any:
        """A `DiscoveryRequest`."""
        return DiscoveryRequest.FromString(message)

    def change(self, request: Any) -> Change:
        """What it says."""
        return Change(
            names=tuple(request.resource_names),
            has_some=bool(request.version_info),
            nonce=request.response_nonce,
            error=_error(request),
        )

    def write(self, answer: Answer) -> bytes:
        """A `DiscoveryResponse`."""
        head = DiscoveryResponse(
            version_info=answer.version, type_url=answer.type_url, nonce=answer.nonce
        )
        return b"".join((head.SerializeToString(), *(each.whole for each in answer.resources)))


@final
class Delta:
    """Requests and answers have what is new."""

    is_delta = True

    def read(self, message: bytes) -> Any:
        """A `DeltaDiscoveryRequest`."""
        return DeltaDiscoveryRequest.FromString(message)

    def change(self, request: Any) -> Change:
        """What it says."""
        return Change(
            more=tuple(request.resource_names_subscribe),
            fewer=tuple(request.resource_names_unsubscribe),
            versions=dict(request.initial_resource_versions),
            has_some=bool(request.initial_resource_versions),
            nonce=request.response_nonce,
            error=_error(request),
        )

    def write(self, answer: Answer) -> bytes:
        """A `DeltaDiscoveryResponse`."""
        head = DeltaDiscoveryResponse(
            system_version_info=answer.version,
            type_url=answer.type_url,
            removed_resources=answer.removed,
            nonce=answer.nonce,
        )
        return b"".join((head.SerializeToString(), *(each.delta for each in answer.resources)))


def _error(request: Any) -> str:
    if not request.HasField("error_detail"):
        return ""
    return request.error_detail.message or f"code {request.error_detail.code}"
