"""Frozen dataclasses from JSON objects and back, by nothing but the types of their fields.

A field `base_ejection_time: Seconds = 30.0` is `"baseEjectionTime": "30s"` in JSON. What a type
does not say, a format does: `Annotated[int, Integer(2, 10)]`. Errors begin with the path of the
value.
"""

from meshkit.fields.codes import StatusCodes, StatusNames
from meshkit.fields.formats import Array, Duration, Format, Integer, Number, Seconds
from meshkit.fields.place import FieldError, Place
from meshkit.fields.records import camel_case, check, formats_of, from_json, json_name, to_json

__all__ = [
    "Array",
    "Duration",
    "FieldError",
    "Format",
    "Integer",
    "Number",
    "Place",
    "Seconds",
    "StatusCodes",
    "StatusNames",
    "camel_case",
    "check",
    "formats_of",
    "from_json",
    "json_name",
    "to_json",
]
