"""Events of the link to the registry: what is announced there and what is found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

from meshkit.endpoint import Delta, Endpoint
from meshkit.events.event import Event, endpoint_details

__all__ = [
    "CacheUnusable",
    "EndpointKeyDeleted",
    "EndpointRegistered",
    "EndpointTakenOver",
    "EndpointWithdrawn",
    "EndpointsChanged",
    "EndpointsFromCache",
    "EntrySkipped",
    "LeaseLost",
    "LeaseUnconfirmed",
    "RegistrationPending",
    "RegistryConnected",
    "RegistryDisconnected",
    "RegistryRefused",
    "TlsReloadFailed",
    "TlsReloaded",
]


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
class TlsReloaded(Event):
    """Renewed TLS files are used for the connections to the registry from now on."""

    name: ClassVar[str] = "tls.reloaded"
    registry: str


@final
@dataclass(frozen=True, slots=True)
class TlsReloadFailed(Event):
    """Changed TLS files cannot be used; the last good ones are. Once per change."""

    name: ClassVar[str] = "tls.reload_failed"
    level: ClassVar[str] = "warning"
    registry: str
    reason: str


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
    """An endpoint of this process stands in the registry (again, if `again`).

    It did not for `outage` seconds at most: since it last stood for certain, or since it was asked
    for.
    """

    name: ClassVar[str] = "endpoint.registered"
    endpoint: Endpoint
    registry: str
    lease: int
    again: bool
    outage: float

    def details(self) -> Mapping[str, Any]:
        """The fields for a log line."""
        return endpoint_details(self.endpoint) | {
            "registry": self.registry,
            "lease": f"{self.lease:x}",
            "again": self.again,
            "outage": round(self.outage, 3),
        }


@final
@dataclass(frozen=True, slots=True)
class EndpointKeyDeleted(Event):
    """Somebody deleted an endpoint's key while its lease lived; it has been written again."""

    name: ClassVar[str] = "endpoint.key_deleted"
    level: ClassVar[str] = "warning"
    endpoint: Endpoint
    registry: str

    def details(self) -> Mapping[str, Any]:
        """The fields for a log line."""
        return endpoint_details(self.endpoint) | {"registry": self.registry}


@final
@dataclass(frozen=True, slots=True)
class EndpointTakenOver(Event):
    """Somebody wrote over an endpoint's key: `by` is the address that stands there now.

    It is announced again: under a new id if theirs has a `lease`, else their value is written over.
    Once per key and lease of theirs.
    """

    name: ClassVar[str] = "endpoint.taken_over"
    level: ClassVar[str] = "warning"
    endpoint: Endpoint
    registry: str
    by: str
    lease: int

    def details(self) -> Mapping[str, Any]:
        """The fields for a log line."""
        return endpoint_details(self.endpoint) | {
            "registry": self.registry,
            "by": self.by,
            "lease": f"{self.lease:x}",
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
        return endpoint_details(self.endpoint) | {
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
class EndpointsFromCache(Event):
    """The registry has not answered yet: the endpoints known `age` seconds ago are used."""

    name: ClassVar[str] = "endpoints.from_cache"
    level: ClassVar[str] = "warning"
    service: str
    total: int
    age: float


@final
@dataclass(frozen=True, slots=True)
class CacheUnusable(Event):
    """A file of the cache of endpoints cannot be written or read: it is left. Once per reason."""

    name: ClassVar[str] = "cache.unusable"
    level: ClassVar[str] = "warning"
    reason: str


@final
@dataclass(frozen=True, slots=True)
class EntrySkipped(Event):
    """A value in the registry is no endpoint; the others are used. Once per key and value."""

    name: ClassVar[str] = "entry.skipped"
    level: ClassVar[str] = "warning"
    service: str
    key: str
    reason: str
