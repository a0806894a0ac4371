"""What the values of strangers have in them, as tolerant as is safe."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Final

__all__ = [
    "MAX_VALUE",
    "MAX_WEIGHT",
    "read_host_port",
    "read_labels",
    "read_object",
    "read_text",
    "read_weight",
]

MAX_VALUE: Final = 65536  # bytes; an endpoint has a few hundred
MAX_WEIGHT: Final = 2**32 - 1  # xDS and gRPC carry weights as uint32


def read_text(value: bytes) -> str:
    """The text of a value; `ValueError` if it is too long or no UTF-8."""
    if len(value) > MAX_VALUE:
        raise ValueError(f"the value has {len(value)} bytes, more than {MAX_VALUE}")
    return value.decode()


def read_object(value: bytes) -> dict[str, Any]:
    """The fields of a JSON object, their names in lower case: Go ignores case, too."""
    try:
        fields = json.loads(read_text(value))
    except RecursionError:
        raise ValueError("JSON nested too deep") from None
    if not isinstance(fields, dict):
        raise ValueError("no JSON object")  # noqa: TRY004 -- bad data, no bad call
    return {name.lower(): field for name, field in fields.items()}


def read_weight(weight: object) -> int:
    """A weight that may be a number or a text; `ValueError` if it is none."""
    if isinstance(weight, bool) or not isinstance(weight, int | float | str):
        raise ValueError("weight is no number")  # noqa: TRY004 -- bad data, no bad call
    try:
        number = float(weight)
    except OverflowError:
        number = math.inf
    if not 0 <= number <= MAX_WEIGHT:  # NaN fails, too
        raise ValueError(f"weight is out of 0..{MAX_WEIGHT}")
    return max(round(number), 1 if number > 0 else 0)  # 0.2 is little, not nothing


def read_host_port(fields: Mapping[str, Any]) -> str:
    """The address in the fields `host` and `port`, unchecked; `ValueError` if they are none."""
    host, port = fields.get("host"), fields.get("port")
    if not isinstance(host, str) or isinstance(port, bool) or not isinstance(port, int):
        raise ValueError("host or port is missing")  # noqa: TRY004 -- bad data, no bad call
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def read_labels(labels: object) -> dict[str, str]:
    """The texts of an object of texts; what is none is left out."""
    if not isinstance(labels, Mapping):
        return {}
    return {name: label for name, label in labels.items() if isinstance(label, str)}
