"""Events of a mesh as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

from meshkit.events.event import Event

__all__ = [
    "ConfigResolved",
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
class TaskCrashed(Event):
    """A background task met an error nobody expected (a bug); a loop is started again."""

    name: ClassVar[str] = "task.crashed"
    level: ClassVar[str] = "error"
    task: str
    error: BaseException

    def details(self) -> Mapping[str, Any]:
        """The fields for a log line."""
        return {"task": self.task, "exc_info": self.error}
