"""Events of a control plane."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from meshkit.events.event import Event

__all__ = [
    "ControlPlaneStarted",
    "ControlPlaneStopped",
    "HostUnknown",
    "XdsClientConnected",
    "XdsClientLeft",
    "XdsNamesRefused",
    "XdsResourcesRefused",
]


@final
@dataclass(frozen=True, slots=True)
class ControlPlaneStarted(Event):
    """A control plane answers xDS clients at `address`."""

    name: ClassVar[str] = "xds.started"
    address: str
    registry: str


@final
@dataclass(frozen=True, slots=True)
class ControlPlaneStopped(Event):
    """A control plane has stopped; its clients go on with what they know."""

    name: ClassVar[str] = "xds.stopped"
    address: str


@final
@dataclass(frozen=True, slots=True)
class XdsClientConnected(Event):
    """An xDS client opened a stream; `client` is how it calls itself."""

    name: ClassVar[str] = "xds.client_connected"
    level: ClassVar[str] = "debug"
    node: str
    client: str
    peer: str


@final
@dataclass(frozen=True, slots=True)
class XdsClientLeft(Event):
    """The stream of an xDS client has ended."""

    name: ClassVar[str] = "xds.client_left"
    level: ClassVar[str] = "debug"
    node: str
    client: str
    peer: str


@final
@dataclass(frozen=True, slots=True)
class XdsResourcesRefused(Event):
    """An xDS client refused resources (NACK) and goes on with those it has."""

    name: ClassVar[str] = "xds.resources_refused"
    level: ClassVar[str] = "error"
    node: str
    client: str
    type_url: str
    resources: tuple[str, ...]
    reason: str


@final
@dataclass(frozen=True, slots=True)
class XdsNamesRefused(Event):
    """An xDS client asks for names that cannot be, or for too many: it gets no answer for those."""

    name: ClassVar[str] = "xds.names_refused"
    level: ClassVar[str] = "warning"
    node: str
    client: str
    names: tuple[str, ...]
    reason: str


@final
@dataclass(frozen=True, slots=True)
class HostUnknown(Event):
    """The host name of an endpoint has no IP, which xDS needs: it is left out until it has."""

    name: ClassVar[str] = "xds.host_unknown"
    level: ClassVar[str] = "warning"
    host: str
    reason: str
