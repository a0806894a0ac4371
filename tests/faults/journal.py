"""What a process of a scenario writes down, and how it is read afterwards.

Three files of JSON lines for each process: its events, the calls it made, and the ids of those it
ran. Each line is written at once, so that a killed process loses none. All times are of the
machine's one monotonic clock.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar

from meshkit.endpoint import Delta, Endpoint
from meshkit.events import Event

__all__ = [
    "OK",
    "Call",
    "Happening",
    "Journal",
    "Records",
    "calls_of",
    "happenings_of",
    "name_of",
    "runs_of",
]

T = TypeVar("T")

OK: Final = "OK"


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call of a client. `to`: the server it was sent to last, "" for none."""

    id: str
    kind: str
    start: float
    end: float
    code: str
    details: str
    to: str


@dataclass(frozen=True, kw_only=True)
class Happening:
    """One event of a process."""

    at: float
    what: str
    fields: dict[str, Any]


class Journal:
    """The files of a process, for writing; a hook of its mesh."""

    def __init__(self, stem: Path) -> None:
        self._happenings = _events(stem).open("a", buffering=1)
        self._calls = _calls(stem).open("a", buffering=1)
        self._runs = _runs(stem).open("a", buffering=1)

    def __call__(self, event: Event) -> None:
        self.note(event.name, **{f.name: getattr(event, f.name) for f in fields(event)})

    def note(self, what: str, **about: Any) -> None:
        """Write down what happens now."""
        line = {"at": time.monotonic(), "what": what, "fields": about}
        self._happenings.write(json.dumps(line, default=_plain) + "\n")

    def record(self, call: Call) -> None:
        """Write down how a call went."""
        self._calls.write(json.dumps(dataclasses.asdict(call)) + "\n")

    def ran(self, call: str) -> None:
        """Write down that a call has reached its handler."""
        self._runs.write(json.dumps(call) + "\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._happenings.close()
        self._calls.close()
        self._runs.close()


def name_of(endpoint: Endpoint) -> str:
    """What the scenario calls the server of an endpoint; "" for one that it does not know."""
    return endpoint.metadata.get("name", "")


def _plain(value: object) -> object:
    if isinstance(value, Endpoint):
        return name_of(value)
    if isinstance(value, Delta):
        kinds = {"added": value.added, "changed": value.changed, "removed": value.removed}
        return {kind: {e.id: name_of(e) for e in endpoints} for kind, endpoints in kinds.items()}
    return str(value)


def _events(stem: Path) -> Path:
    return stem.with_suffix(".events")


def _calls(stem: Path) -> Path:
    return stem.with_suffix(".calls")


def _runs(stem: Path) -> Path:
    return stem.with_suffix(".runs")


class Records(Generic[T]):
    """What a file has of one process; each line is read once, when it is complete.

    Args:
        path: of the file, which may not be there yet.
        read: makes a record of a line.
    """

    def __init__(self, path: Path, read: Callable[[Any], T]) -> None:
        self._path = path
        self._read = read
        self._offset = 0
        self._records: list[T] = []

    def so_far(self) -> list[T]:
        """All records until now, in order."""
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._offset)
                lines = file.read().splitlines(keepends=True)
            for line in lines:
                if line.endswith(b"\n"):
                    self._offset += len(line)
                    self._records.append(self._read(json.loads(line)))
        return list(self._records)


def happenings_of(stem: Path) -> Records[Happening]:
    """The events of a process."""
    return Records(_events(stem), lambda line: Happening(**line))


def calls_of(stem: Path) -> Records[Call]:
    """The calls of a process that have ended."""
    return Records(_calls(stem), lambda line: Call(**line))


def runs_of(stem: Path) -> Records[str]:
    """The ids of the calls that a process has run."""
    return Records(_runs(stem), str)
