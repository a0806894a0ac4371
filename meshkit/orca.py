"""What a server says of its load at the end of a call: an ORCA report (gRFC A51).

The message is `xds.data.orca.v3.OrcaLoadReport` of https://github.com/cncf/xds, written and read by
hand: it is ten fields, and the package that has it brings some hundred others. Any gRPC client's
`weighted_round_robin` (gRFC A58) reads it.

gRPC's core, which grpcio wraps, reads the official key and then drops it: a Python client never
finds it in trailing metadata. So a report is sent under a second key as well, for those.
"""

from __future__ import annotations

import functools
import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, final

__all__ = ["CORE_TRAILER", "TRAILER", "LoadReport"]

# The keys of a report in the trailing metadata of a call.
CORE_TRAILER: Final = "endpoint-load-metrics-bin"  # what gRPC reads, in all its languages
TRAILER: Final = "meshkit-load-bin"  # the same, where a Python client can see it

# Field numbers of the message; 3 is `rps` as an integer, which 6 has replaced.
_NUMBERS: Final = {
    1: "cpu_utilization",
    2: "mem_utilization",
    4: "request_cost",
    5: "utilization",
    6: "rps",
    7: "eps",
    8: "named_metrics",
    9: "application_utilization",
}
_MAPS: Final = frozenset({4, 5, 8})
_DOUBLE: Final = struct.Struct("<d")
# https://protobuf.dev/programming-guides/encoding: a field is a tag and what its wire type says.
_VARINT: Final = 0
_FIXED64: Final = 1
_BYTES: Final = 2
_FIXED32: Final = 5


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class LoadReport:
    """The load of a server; 0.0 means that it does not say.

    Attributes:
        cpu_utilization: of the processors that it may use, 1.0 when all are busy.
        mem_utilization: of the memory that it may use.
        application_utilization: of what limits it; wins over `cpu_utilization` in a balancer.
        rps: calls per second, of all services and clients.
        eps: those of them that failed, per second.
        request_cost: what this one call has cost, in units of the application.
        utilization: of further resources, by name.
        named_metrics: whatever else the application counts.
    """

    cpu_utilization: float = 0.0
    mem_utilization: float = 0.0
    application_utilization: float = 0.0
    rps: float = 0.0
    eps: float = 0.0
    request_cost: Mapping[str, float] = field(default_factory=dict)
    utilization: Mapping[str, float] = field(default_factory=dict)
    named_metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def busy(self) -> float:
        """What a balancer divides by: the application's own figure, else the processor's (A58)."""
        return self.application_utilization or self.cpu_utilization

    def to_bytes(self) -> bytes:
        """The report on the wire."""
        return b"".join(
            piece
            for number, name in _NUMBERS.items()
            for piece in _pieces(number, getattr(self, name))
        )

    @staticmethod
    @functools.lru_cache(
        maxsize=1024
    )  # a server says the same for a while, at the end of each call
    def from_bytes(data: bytes) -> LoadReport | None:
        """Read a report; fields that are not known and figures that make no sense are left out.

        None if it is no such message.
        """
        try:
            return LoadReport(**_known(data))
        except (ValueError, IndexError, struct.error):
            return None


# ---- writing


def _pieces(number: int, value: float | Mapping[str, float]) -> Iterator[bytes]:
    if isinstance(value, Mapping):
        for key, figure in value.items():
            name = key.encode()
            entry = b"\x0a" + _to_varint(len(name)) + name + b"\x11" + _DOUBLE.pack(figure)
            yield bytes((number << 3 | _BYTES,)) + _to_varint(len(entry)) + entry
    elif value:
        yield bytes((number << 3 | _FIXED64,)) + _DOUBLE.pack(value)


def _to_varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


# ---- reading


def _known(data: bytes) -> dict[str, Any]:
    known: dict[str, Any] = {}
    for number, value in _fields(data):
        name = _NUMBERS.get(number)
        if name is None:
            continue
        if number in _MAPS and isinstance(value, bytes):
            entry = dict(_fields(value))
            key, figure = entry.get(1, b""), entry.get(2, 0.0)
            if isinstance(key, bytes) and isinstance(figure, float) and math.isfinite(figure):
                known.setdefault(name, {})[key.decode()] = figure
        elif isinstance(value, float) and 0 <= value < math.inf:
            known[name] = value
    return known


def _fields(data: bytes) -> Iterator[tuple[int, int | float | bytes]]:
    """The fields of a message by number, as their wire type has them."""
    at = 0
    while at < len(data):
        tag, at = _from_varint(data, at)
        value: int | float | bytes
        kind = tag & 7
        if kind == _VARINT:
            value, at = _from_varint(data, at)
        elif kind == _FIXED64:
            (value,), at = _DOUBLE.unpack_from(data, at), at + 8
        elif kind == _BYTES:
            length, at = _from_varint(data, at)
            value, at = data[at : at + length], at + length
        elif kind == _FIXED32:
            value, at = data[at : at + 4], at + 4
        else:
            raise ValueError(f"no wire type {kind}")
        if at > len(data):
            raise ValueError("cut off")
        yield tag >> 3, value


def _from_varint(data: bytes, at: int) -> tuple[int, int]:
    """The number that begins at `at`, and where the next thing begins."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
