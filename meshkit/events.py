"""What happened, as frozen values, for hooks: logs, metrics and tests see the same thing.

The core emits; a hook is one callable that takes an event, quickly and without waiting.
Each event knows the name and the level that its log line has.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Protocol, TypeAlias, final

from meshkit.endpoint import Delta, Endpoint

__all__ = [
    "ChannelClosed",
    "ChannelOpened",
    "ConfigResolved",
    "Emit",
    "EndpointFailing",
    "EndpointReady",
    "EndpointRegistered",
    "EndpointWithdrawn",
    "EndpointsChanged",
    "EntrySkipped",
    "Event",
    "Hook",
    "LeaseLost",
    "LeaseUnconfirmed",
    "RegistrationPending",
    "RegistryConnected",
    "RegistryDisconnected",
    "RegistryRefused",
    "ServerDrained",
    "ServerDraining",
    "ServerStarted",
    "StreamsCut",
    "TaskCrashed",
    "emit_to",
]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that changed. `name` is `noun.verb_past`, `level` one of logging's words."""

    name: ClassVar[str]
    level: ClassVar[str] = "info"

    def details(self) -> Mapping[str, Any]:
        """The fields for a log line."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


class Hook(Protocol):
    """Receives every event; synchronous and quick. What it raises is logged and dropped."""

    def __call__(self, event: Event, /) -> None:
        """Take note of `event`."""
        ...


Emit: TypeAlias = Callable[[Event], None]


def emit_to(hooks: Iterable[Hook]) -> Emit:
    """One function that gives an event to all `hooks`, each shielded from the others' errors."""
    receivers = tuple(hooks)

    def emit(event: Event) -> None:
        for hook in receivers:
            try:
                hook(event)
            except Exception:  # a user's hook must not end a loop of ours
                logging.getLogger("meshkit").exception("a hook failed on %s", event.name)

    return emit


def _endpoint_details(endpoint: Endpoint) -> dict[str, Any]:
    return {"service": endpoint.service, "endpoint": endpoint.id, "address": endpoint.address}


@final
@dataclass(frozen=True, slots=True)
class ConfigResolved(Event):
    """A mesh opened; which registry it uses and which of keyword, URL, environment, default won."""

    name: ClassVar[str] = "config.resolved"
    registry: str
    namespace: str
    sources: Mapping[str, str]


@final
@dataclass(frozen=True, slots=True)
class RegistryDisconnected(Event):
    """The registry cannot be followed; endpoints stay as last known. Once per outage."""

    name: ClassVar[str] = "registry.disconnected"
    level: ClassVar[str] = "warning"
    registry: str
    reason: str


@final
@dataclass(frozen=True, slots=True)
class RegistryConnected(Event):
    """The registry is followed again after `outage` seconds."""

    name: ClassVar[str] = "registry.connected"
    registry: str
    outage: float


@final
@dataclass(frozen=True, slots=True)
class RegistryRefused(Event):
    """The registry refuses our credentials or rights; tried again, but somebody must act."""

    name: ClassVar[str] = "registry.auth_failed"
    level: ClassVar[str] = "error"
    registry: str
    reason: str


@final
@dataclass(frozen=True, slots=True)
class RegistrationPending(Event):
    """A server serves already but could not announce itself yet; it keeps trying."""

    name: ClassVar[str] = "registration.pending"
    level: ClassVar[str] = "warning"
    registry: str
    services: tuple[str, ...]
    reason: str


@final
@dataclass(frozen=True, slots=True)
class EndpointRegistered(Event):
    """An endpoint of this process stands in the registry (again, if `again`)."""

    name: ClassVar[str] = "endpoint.registered"
    endpoint: Endpoint
    registry: str
    lease: int
    again: bool

    def details(self) -> Mapping[str, Any]:
        """The fields for a log line."""
        return _endpoint_details(self.endpoint) | {
            "registry": self.registry,
            "lease": f"{self.lease:x}",
            "again": self.again,
        }


@final
@dataclass(frozen=True, slots=True)
class EndpointWithdrawn(Event):
    """An endpoint of this process left the registry, or could not in time (`confirmed` False)."""

    name: ClassVar[str] = "endpoint.withdrawn"
    endpoint: Endpoint
    registry: str
    confirmed: bool

    def details(self) -> Mapping[str, Any]:
        """The fields for a log line."""
        return _endpoint_details(self.endpoint) | {
            "registry": self.registry,
            "confirmed": self.confirmed,
        }


@final
@dataclass(frozen=True, slots=True)
class LeaseUnconfirmed(Event):
    """No answer within the lease's time: it may live or not. Renewing goes on."""

    name: ClassVar[str] = "lease.unconfirmed"
    level: ClassVar[str] = "warning"
    registry: str
    lease: int
    silent_for: float


@final
@dataclass(frozen=True, slots=True)
class LeaseLost(Event):
    """The registry says our lease is gone, and our endpoints with it; announcing again."""

    name: ClassVar[str] = "lease.lost"
    level: ClassVar[str] = "warning"
    registry: str
    lease: int
    held_for: float


@final
@dataclass(frozen=True, slots=True)
class EndpointsChanged(Event):
    """The known endpoints of a watched service are other ones now."""

    name: ClassVar[str] = "endpoints.changed"
    service: str
    revision: int
    total: int
    delta: Delta

    def details(self) -> Mapping[str, Any]:
        """The fields for a log line."""
        return {
            "service": self.service,
            "revision": self.revision,
            "total": self.total,
            "added": [e.address for e in self.delta.added],
            "changed": [e.address for e in self.delta.changed],
            "removed": [e.address for e in self.delta.removed],
        }


@final
@dataclass(frozen=True, slots=True)
class EntrySkipped(Event):
    """A value in the registry is no endpoint; the others are used. Once per key and value."""

    name: ClassVar[str] = "entry.skipped"
    level: ClassVar[str] = "warning"
    service: str
    key: str
    reason: str


@final
@dataclass(frozen=True, slots=True)
class EndpointReady(Event):
    """A client's connection to an endpoint is up and the endpoint healthy."""

    name: ClassVar[str] = "endpoint.ready"
    level: ClassVar[str] = "debug"
    endpoint: Endpoint

    def details(self) -> Mapping[str, Any]:
        """The fields for a log line."""
        return _endpoint_details(self.endpoint)


@final
@dataclass(frozen=True, slots=True)
class EndpointFailing(Event):
    """A client's connection to an endpoint went, or the endpoint says it is not healthy."""

    name: ClassVar[str] = "endpoint.failing"
    level: ClassVar[str] = "debug"
    endpoint: Endpoint

    def details(self) -> Mapping[str, Any]:
        """The fields for a log line."""
        return _endpoint_details(self.endpoint)


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


@final
@dataclass(frozen=True, slots=True)
class ServerStarted(Event):
    """A server is bound and healthy; it is registered next."""

    name: ClassVar[str] = "server.started"
    address: str
    services: tuple[str, ...]


@final
@dataclass(frozen=True, slots=True)
class ServerDraining(Event):
    """A server leaves: it withdraws, waits until no call comes, and finishes those it has."""

    name: ClassVar[str] = "server.draining"
    address: str
    in_flight: int


@final
@dataclass(frozen=True, slots=True)
class StreamsCut(Event):
    """Calls that outlived the grace were ended with UNAVAILABLE; how many of each method."""

    name: ClassVar[str] = "server.streams_cut"
    level: ClassVar[str] = "warning"
    address: str
    grace: float
    calls: Mapping[str, int]


@final
@dataclass(frozen=True, slots=True)
class ServerDrained(Event):
    """A server has stopped; `duration` seconds after it began to leave, `cut` calls cut short."""

    name: ClassVar[str] = "server.drained"
    address: str
    duration: float
    cut: int


@final
@dataclass(frozen=True, slots=True)
class TaskCrashed(Event):
    """A background task met an error nobody expected (a bug); a loop is started again."""

    name: ClassVar[str] = "task.crashed"
    level: ClassVar[str] = "error"
    task: str
    error: BaseException

    def details(self) -> Mapping[str, Any]:
        """The fields for a log line."""
        return {"task": self.task, "exc_info": self.error}
