"""What a registry can say of itself, for people, metrics and tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import final

from meshkit.discovery import RegistrationState
from meshkit.endpoint import Endpoint

__all__ = ["LeaseStatus", "RegistrationStatus", "RegistryStatus", "WatchStatus"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class WatchStatus:
    """A watched service.

    Attributes:
        total: how many endpoints are known; None before the first answer.
        unconfirmed: how many of them are held although the last list did not have them.
        age: seconds since the registry last confirmed them; None before the first answer.
        from_cache: whether they are what an earlier process knew, the registry not having answered.
        layouts: the name of the layout that each comes from, by its id; empty where one is read.
    """

    total: int | None
    unconfirmed: int
    age: float | None
    from_cache: bool = False
    layouts: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrationStatus:
    """An endpoint that this process announces.

    Attributes:
        endpoint: what is announced.
        state: how it stands.
        outage: seconds since it last stood for certain, or since it was to; None while it stands.
    """

    endpoint: Endpoint
    state: RegistrationState
    outage: float | None


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseStatus:
    """The lease of this process; `left` seconds of it are certain, below 0 it is in doubt."""

    id: int
    left: float


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryStatus:
    """A registry as this process sees it now.

    Attributes:
        registry: where it is, without secrets.
        namespace: whose services these are.
        connected: False while a watcher or the registrar cannot follow it.
        outage: seconds for which that has lasted; None while connected.
        reason: the last error of the outage; None while connected.
        watches: the watched services, by name.
        registrations: each endpoint that this process announces.
        lease: under which it is announced; None without one.
    """

    registry: str
    namespace: str
    connected: bool = True
    outage: float | None = None
    reason: str | None = None
    watches: Mapping[str, WatchStatus] = field(default_factory=lambda: MappingProxyType({}))
    registrations: tuple[RegistrationStatus, ...] = ()
    lease: LeaseStatus | None = None
