"""Sets of gRPC status codes, by name or number in JSON."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Annotated, Any, Final, TypeAlias, final

from meshkit.fields.formats import Array, Format
from meshkit.fields.place import Place

__all__ = ["CODES", "StatusCodes", "StatusNames"]

CODES: Final = (
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
)
"""The names of gRPC's status codes; each stands at its number."""


@final
@dataclass(frozen=True, slots=True)
class StatusNames(Format):
    """An array of names in any case, or of numbers; `at_least` so many (gRFC A6)."""

    at_least: int = 0

    def __str__(self) -> str:
        return "a non-empty array of status codes" if self.at_least else "an array of status codes"

    def _take(self, value: Any) -> list[Any] | tuple[Any, ...] | None:
        return value if isinstance(value, list | tuple) and len(value) >= self.at_least else None

    def read(self, value: Any, place: Place) -> frozenset[str]:
        """The names, in capitals."""
        codes = Array(_CODE).read(super(StatusNames, self).read(value, place), place)
        return frozenset(codes)

    def write(self, value: Any) -> Any:
        """The names in order of their numbers."""
        return sorted(value, key=_number) if isinstance(value, AbstractSet) else value


@final
class _StatusCode(Format):
    __slots__ = ()

    def __str__(self) -> str:
        return "the name or number of a gRPC status code"

    def _take(self, value: Any) -> str | None:
        if isinstance(value, int) and not isinstance(value, bool):
            return CODES[value] if 0 <= value < len(CODES) else None
        return next((c for c in CODES if isinstance(value, str) and value.upper() == c), None)


_CODE: Final = _StatusCode()


def _number(name: object) -> int:
    return CODES.index(name) if name in CODES else len(CODES)


StatusCodes: TypeAlias = Annotated[frozenset[str], StatusNames()]
"""A field that is a set of names such as `UNAVAILABLE`, as `grpc.StatusCode` has them."""
