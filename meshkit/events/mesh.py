"""Events of a mesh as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar, final

from meshkit.events.event import Event

__all__ = [
    "ConfigResolved",
    "LoopStalled",
    "TaskCrashed",
]


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
class LoopStalled(Event):
    """The event loop did nothing for `stalled` seconds, TTL/3 or more: something blocked it.

    So many renewals of the lease were missed; from three on it may have been lost, and is announced
    again then.
    """

    name: ClassVar[str] = "loop.stalled"
    level: ClassVar[str] = "warning"
    stalled: float
    began: float
    ended: float
    renewals_missed: int

    def details(self) -> Mapping[str, Any]:
        """The fields for a log line."""
        return {
            "stalled": self.stalled,
            "began": _time_of_day(self.began),
            "ended": _time_of_day(self.ended),
            "renewals_missed": self.renewals_missed,
        }


def _time_of_day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


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
