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
    "EndpointEjected",
    "EndpointFailing",
    "EndpointForeign",
    "EndpointReadmitted",
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
class EndpointEjected(Event):
    """Calls to an endpoint failed: it gets none for `seconds`, and then one to see how it is."""

    name: ClassVar[str] = "endpoint.ejected"
    level: ClassVar[str] = "warning"
    endpoint: Endpoint
    seconds: float
    reason: str

    def details(self) -> Mapping[str, Any]:
        """The fields for a log line."""
        seconds = round(self.seconds, 1)
        return {**endpoint_details(self.endpoint), "seconds": seconds, "reason": self.reason}


@final
@dataclass(frozen=True, slots=True)
class EndpointReadmitted(Event):
    """An endpoint that was ejected answered again, after `seconds`, and takes part in the calls."""

    name: ClassVar[str] = "endpoint.readmitted"
    endpoint: Endpoint
    seconds: float

    def details(self) -> Mapping[str, Any]:
        """The fields for a log line."""
        return {**endpoint_details(self.endpoint), "seconds": round(self.seconds, 1)}


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
