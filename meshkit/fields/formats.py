"""How the values of single fields are written in JSON, and which of them can be used."""

from __future__ import annotations

import enum
import math
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Final, TypeAlias, final

from meshkit.fields.place import Place

__all__ = ["Array", "Choice", "Duration", "Flag", "Format", "Integer", "Number", "Seconds", "Text"]

_LONGEST: Final = 315_576_000_000  # seconds, as protobuf has it: 10,000 years
_DURATION: Final = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?s")


class Format(ABC):
    """How the values of a field are written in JSON; one that does not say: as they are.

    Attributes:
        json_name: what the field is called there, if not as in Python.
    """

    __slots__ = ()

    json_name: ClassVar[str] = ""

    @abstractmethod
    def __str__(self) -> str:
        """What a value must be: `an integer of 2 or more`."""

    @abstractmethod
    def _take(self, value: Any) -> Any:
        """The value that JSON says; None if it is not what it must be."""

    def read(self, value: Any, place: Place) -> Any:
        """The value that JSON says.

        Raises:
            FieldError: it cannot be used.
        """
        found = self._take(value)
        if found is None:
            raise place.wrong(str(self), value)
        return found

    def write(self, value: Any) -> Any:
        """JSON for a value; of one that cannot be used something that cannot be read."""
        return value


@dataclass(frozen=True, slots=True)
class _Limits:
    """From `low` to `high`, both included, or above `above`."""

    low: float | None = None
    high: float | None = None
    above: float | None = None

    def _allow(self, value: float) -> bool:
        return (
            (self.low is None or value >= self.low)
            and (self.high is None or value <= self.high)
            and (self.above is None or value > self.above)
        )

    def _range(self, unit: str = "") -> str:
        """The limits, as they are said after what is limited."""
        low, high, above = (
            None
            if limit is None
            else (f"{limit}" if isinstance(limit, int) else f"{limit:g}") + unit
            for limit in (self.low, self.high, self.above)
        )
        if above is not None:
            return f" above {above}" if high is None else f" above {above} and at most {high}"
        if low is None:
            return "" if high is None else f" of {high} or less"
        return f" of {low} or more" if high is None else f" from {low} to {high}"


@final
@dataclass(frozen=True, slots=True)
class Integer(_Limits, Format):
    """A whole number within limits; what is above `cap` counts as `cap`."""

    cap: int | None = None

    def __str__(self) -> str:
        return f"an integer{self._range()}"

    def _take(self, value: Any) -> int | None:
        if not isinstance(value, int) or isinstance(value, bool) or not self._allow(value):
            return None
        return value if self.cap is None else min(value, self.cap)


@final
@dataclass(frozen=True, slots=True)
class Number(_Limits, Format):
    """A finite number within limits; decimals beyond `decimals` are cut off first."""

    decimals: int | None = None

    def __str__(self) -> str:
        return f"a number{self._range()}"

    def _take(self, value: Any) -> float | None:
        if not isinstance(value, int | float) or isinstance(value, bool):
            return None
        try:
            number = float(value)
        except OverflowError:
            return None
        if not math.isfinite(number):
            return None
        if self.decimals is not None:
            number = _cut(number, self.decimals)
        return number if self._allow(number) else None


@final
@dataclass(frozen=True, slots=True)
class Duration(_Limits, Format):
    """Seconds within limits, written as in protobuf's JSON: `"1.5s"`; never negative."""

    def __str__(self) -> str:
        return f'a duration{self._range("s")}, such as "1.5s"'

    def _take(self, value: Any) -> float | None:
        if not isinstance(value, str) or not _DURATION.fullmatch(value):
            return None
        seconds = float(value[:-1])
        return seconds if seconds <= _LONGEST and self._allow(seconds) else None

    def write(self, value: Any) -> Any:
        """JSON for seconds, exact to a nanosecond."""
        if not isinstance(value, int | float) or not math.isfinite(value):
            return value
        return f"{Decimal(f'{value:.9f}').normalize():f}s"


Seconds: TypeAlias = Annotated[float, Duration()]
"""A field that is seconds in Python and a duration such as `"1.5s"` in JSON."""


@final
@dataclass(frozen=True, slots=True)
class Flag(Format):
    """True or false."""

    def __str__(self) -> str:
        return "true or false"

    def _take(self, value: Any) -> bool | None:
        return value if isinstance(value, bool) else None


@final
@dataclass(frozen=True, slots=True)
class Text(Format):
    """Any text."""

    def __str__(self) -> str:
        return "a text"

    def _take(self, value: Any) -> str | None:
        return value if isinstance(value, str) else None


@final
@dataclass(frozen=True, slots=True)
class Choice(Format):
    """One of the words of an enumeration."""

    kind: type[enum.StrEnum]

    def __str__(self) -> str:
        return f"one of {', '.join(self.kind)}"

    def _take(self, value: Any) -> enum.StrEnum | None:
        return next((word for word in self.kind if word == value), None)


@final
@dataclass(frozen=True, slots=True)
class Array(Format):
    """Any number of values of one format."""

    item: Format

    def __str__(self) -> str:
        return "an array"

    def _take(self, value: Any) -> list[Any] | tuple[Any, ...] | None:
        return value if isinstance(value, list | tuple) else None

    def read(self, value: Any, place: Place) -> tuple[Any, ...]:
        """Each of the values."""
        items = enumerate(super(Array, self).read(value, place))
        return tuple(self.item.read(item, place.at(i)) for i, item in items)

    def write(self, value: Any) -> Any:
        """JSON for each."""
        return [self.item.write(item) for item in value]


def _cut(number: float, decimals: int) -> float:
    """`number` without further decimals, as one would write it: 0.5466 is 0.546."""
    scale: int = 10**decimals
    return int(Decimal(repr(number)) * scale) / scale
