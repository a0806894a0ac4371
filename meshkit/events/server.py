"""Events of servers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

from meshkit.events.event import Event

__all__ = [
    "CallsRefused",
    "DeadlineMissing",
    "ServerDrained",
    "ServerDraining",
    "ServerStarted",
    "StreamsCut",
]


@final
@dataclass(frozen=True, slots=True)
class ServerStarted(Event):
    """A server is bound and healthy; it is registered next."""

    name: ClassVar[str] = "server.started"
    address: str
    services: tuple[str, ...]


@final
@dataclass(frozen=True, slots=True)
class CallsRefused(Event):
    """A server refuses calls beyond its limit; told again after ten seconds without any."""

    name: ClassVar[str] = "server.calls_refused"
    level: ClassVar[str] = "warning"
    limit: int


@final
@dataclass(frozen=True, slots=True)
class DeadlineMissing(Event):
    """A call with one response came without deadline, so it may wait for ever; once per method."""

    name: ClassVar[str] = "server.deadline_missing"
    method: str


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
