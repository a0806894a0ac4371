"""Where in a JSON value one is, for errors that say so."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, final

from meshkit.errors import ConfigError

__all__ = ["FieldError", "Place"]

_ROOT: Final = "$"  # the path of the whole
_SHOWN: Final = 60  # characters of a bad value


class FieldError(ConfigError):
    """Raised when a value of a JSON document cannot be used.

    Attributes:
        path: where it stands, as in `methodConfig[1].timeout`; `$` is the whole.
        problem: what is wrong with it.
    """

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = path
        self.problem = problem


@final
@dataclass(frozen=True, slots=True)
class Place:
    """A place in a JSON value that is being read.

    Attributes:
        path: of this place; empty for the whole.
        unknown: receives the paths of fields that nobody knows; None: those are errors.
    """

    path: str = ""
    unknown: list[str] | None = None

    def at(self, key: str | int) -> Place:
        """The place of a field or an item."""
        if isinstance(key, int):
            return Place(f"{self.path or _ROOT}[{key}]", self.unknown)
        if not re.fullmatch(r"\w+", key):
            return Place(f"{self.path or _ROOT}[{_shown(key)}]", self.unknown)
        return self.within(key)

    def within(self, path: str) -> Place:
        """The place at `path` below this one."""
        return Place(f"{self.path}.{path}" if self.path else path, self.unknown)

    def error(self, problem: str) -> FieldError:
        """The error for what stands here."""
        return FieldError(self.path or _ROOT, problem)

    def wrong(self, wanted: str, value: object) -> FieldError:
        """The error for a value that is not what it must be."""
        return self.error(f"must be {wanted}, got {_shown(value)}")

    def unknown_field(self, key: str, known: Iterable[str]) -> None:
        """Note that nobody knows the field `key`; raises `FieldError` where that is an error."""
        place = self.at(key)
        if self.unknown is None:
            raise place.error(f"unknown field; known: {', '.join(known) or 'none'}")
        self.unknown.append(place.path)


def _shown(value: object) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):  # no JSON, or far too much of it
        text = type(value).__name__
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
