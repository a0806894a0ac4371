"""Whole dataclasses as JSON objects: each field by the format that its type says."""

from __future__ import annotations

import dataclasses
import enum
import types
from collections.abc import Mapping
from dataclasses import MISSING, dataclass
from functools import cache
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Final,
    TypeVar,
    Union,
    final,
    get_args,
    get_origin,
    get_type_hints,
)

from meshkit.errors import ConfigError
from meshkit.fields.formats import Array, Choice, Flag, Format, Integer, Number, Text
from meshkit.fields.place import FieldError, Place

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = ["camel_case", "check", "formats_of", "from_json", "json_name", "to_json"]

R = TypeVar("R", bound="DataclassInstance")

_WHOLE: Final = Place()
_PLAIN: Final[Mapping[Any, Format]] = types.MappingProxyType(
    {bool: Flag(), int: Integer(), float: Number(), str: Text()}
)


def from_json(cls: type[R], value: object, place: Place = _WHOLE) -> R:
    """The dataclass that a JSON object describes; null is the same as not given.

    Raises:
        FieldError: something cannot be used.
    """
    record: R = Record(cls).read(value, place)
    return record


def to_json(record: DataclassInstance) -> dict[str, Any]:
    """The JSON object of a dataclass; what has its default is left out."""
    return Record(type(record)).write(record)


def check(record: DataclassInstance) -> None:
    """For `__post_init__`: hold values that were given in code to the rules of those in JSON.

    Raises:
        FieldError: one breaks them.
    """
    for name, how in formats_of(type(record)).items():
        value = getattr(record, name)
        if value is not None:
            object.__setattr__(record, name, how.read(how.write(value), Place(name)))


def camel_case(name: str) -> str:
    """`max_attempts` as JSON has it: `maxAttempts`."""
    first, *others = name.split("_")
    return first + "".join(map(str.title, others))


@cache
def formats_of(cls: type[DataclassInstance]) -> Mapping[str, Format]:
    """How each field of a dataclass is written in JSON, by the name of the field."""
    hints = get_type_hints(cls, include_extras=True)
    return types.MappingProxyType(
        {own.name: _format_of(hints[own.name]) for own in dataclasses.fields(cls) if own.init}
    )


def _format_of(hint: Any) -> Format:
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        own: Format | None = next((extra for extra in args[1:] if isinstance(extra, Format)), None)
        return own or _format_of(args[0])
    if origin in {Union, types.UnionType}:  # with None: null is the same as not given
        return _format_of(next(arg for arg in args if arg is not types.NoneType))
    if origin is tuple:
        return Array(_format_of(args[0]))
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return Record(hint)
    if isinstance(hint, type) and issubclass(hint, enum.StrEnum):
        return Choice(hint)
    return _PLAIN[hint]


@final
@dataclass(frozen=True, slots=True)
class Record(Format):
    """A dataclass, as an object.

    Fields that others know, and that are of no effect here, are the names in its `WITHOUT_EFFECT`.
    """

    kind: type[DataclassInstance]

    def __str__(self) -> str:
        return "an object"

    def _take(self, value: Any) -> Mapping[str, Any] | None:
        return value if isinstance(value, Mapping) else None

    def read(self, value: Any, place: Place) -> Any:
        """The dataclass, if all fields of the object can be used and none is missing."""
        formats = {json_name(name, how): (name, how) for name, how in formats_of(self.kind).items()}
        found = {}
        for key, item in super(Record, self).read(value, place).items():
            if key not in formats:
                if key not in getattr(self.kind, "WITHOUT_EFFECT", ()):
                    place.unknown_field(str(key), formats)
            elif item is not None:
                name, how = formats[key]
                found[name] = how.read(item, place.at(key))
        for own in dataclasses.fields(self.kind):
            if own.init and own.name not in found and _default(own) is MISSING:
                name = json_name(own.name, formats_of(self.kind)[own.name])
                raise place.at(name).error("is required")
        try:
            return self.kind(**found)
        except FieldError as error:  # a rule that its class has for a field
            raise place.within(camel_case(error.path)).error(error.problem) from None
        except ConfigError as error:
            raise place.error(str(error)) from None

    def write(self, value: Any) -> dict[str, Any]:
        """The object, without what has its default."""
        defaults = {own.name: _default(own) for own in dataclasses.fields(self.kind)}
        written = {}
        for name, how in formats_of(self.kind).items():
            item = getattr(value, name)
            if item is not None and item != defaults[name]:
                written[json_name(name, how)] = how.write(item)
        return written


def json_name(name: str, how: Format) -> str:
    """What a field is called in JSON."""
    return how.json_name or camel_case(name)


def _default(own: dataclasses.Field[Any]) -> Any:
    return own.default if own.default_factory is MISSING else own.default_factory()
