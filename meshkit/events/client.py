"""Events of channels and their connections."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

from meshkit.endpoint import Endpoint
from meshkit.events.event import Event, endpoint_details

__all__ = [
    "ChannelClosed",
    "ChannelOpened",
    "EndpointFailing",
    "EndpointForeign",
    "EndpointReady",
]


@final
@dataclass(frozen=True, slots=True)
class EndpointReady(Event):
    """A client's connection to an endpoint is up and the endpoint healthy."""

    name: ClassVar[str] = "endpoint.ready"
    level: ClassVar[str] = "debug"
    endpoint: Endpoint

    def details(self) -> Mapping[str, Any]:
        """The fields for a log line."""
        return endpoint_details(self.endpoint)


@final
@dataclass(frozen=True, slots=True)
class EndpointFailing(Event):
    """A client's connection to an endpoint went, or the endpoint says it is not healthy."""

    name: ClassVar[str] = "endpoint.failing"
    level: ClassVar[str] = "debug"
    endpoint: Endpoint

    def details(self) -> Mapping[str, Any]:
        """The fields for a log line."""
        return endpoint_details(self.endpoint)


@final
@dataclass(frozen=True, slots=True)
class EndpointForeign(Event):
    """Another server answers at an endpoint's address; a client leaves it until that ends."""

    name: ClassVar[str] = "endpoint.foreign"
    level: ClassVar[str] = "warning"
    endpoint: Endpoint
    stranger: str

    def details(self) -> Mapping[str, Any]:
        """The fields for a log line."""
        return {**endpoint_details(self.endpoint), "stranger": self.stranger}


@final
@dataclass(frozen=True, slots=True)
class ChannelOpened(Event):
    """A channel began to follow a service."""

    name: ClassVar[str] = "channel.opened"
    level: ClassVar[str] = "debug"
    service: str


@final
@dataclass(frozen=True, slots=True)
class ChannelClosed(Event):
    """A channel was closed."""

    name: ClassVar[str] = "channel.closed"
    level: ClassVar[str] = "debug"
    service: str
