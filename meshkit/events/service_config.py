"""Events of the service configs that are published in the registry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from meshkit.events.event import Event

__all__ = [
    "ServiceConfigChanged",
    "ServiceConfigRefused",
    "ServiceConfigUnreadable",
    "ServiceConfigWithdrawn",
]


@final
@dataclass(frozen=True, slots=True)
class ServiceConfigChanged(Event):
    """A service config was found in the registry; its `unknown` fields are of no effect here."""

    name: ClassVar[str] = "service.config_changed"
    service: str
    config: str
    unknown: tuple[str, ...]


@final
@dataclass(frozen=True, slots=True)
class ServiceConfigWithdrawn(Event):
    """There is no service config in the registry any more: code and defaults hold."""

    name: ClassVar[str] = "service.config_withdrawn"
    service: str


@final
@dataclass(frozen=True, slots=True)
class ServiceConfigRefused(Event):
    """A service config in the registry cannot be used; the last good one holds. Once per value."""

    name: ClassVar[str] = "service.config_refused"
    level: ClassVar[str] = "error"
    service: str
    key: str
    reason: str


@final
@dataclass(frozen=True, slots=True)
class ServiceConfigUnreadable(Event):
    """The registry lets us read endpoints, and no service config: grant that. Once per watch."""

    name: ClassVar[str] = "service.config_unreadable"
    level: ClassVar[str] = "warning"
    service: str
    key: str
    reason: str
