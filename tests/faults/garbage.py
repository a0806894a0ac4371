"""Values that no program should write below a service's prefix, and some program once will."""

from __future__ import annotations

import json
from typing import Final

__all__ = ["GARBAGE"]

_MEGABYTE: Final = 1 << 20
_NOBODY: Final = "127.0.0.1:1"  # nobody listens there

_BYTES: Final = (
    b"",
    b" ",
    b"\x00",
    b"\xff\xfe\xfd",
    b"\xef\xbb\xbf{}",
    "{\u201cAddr\u201d: 1}".encode("utf-16"),
    b"\x1f\x8b\x08\x00garbage",
    b"\x0a\x09localhost",
    b"127.0.0.1:1",
    b"http://127.0.0.1:1/",
    b"null",
    b"true",
    b"17",
    b"1e999",
    b"NaN",
    b'"127.0.0.1:1"',
    b"[]",
    b"{}",
    b"{",
    b'{"Addr":',
    b'{"Op":0}',
    b'{"Op":0,"Addr":"127.0.0.1:1"',
    b"{'Addr': '127.0.0.1:1'}",
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b"x" * _MEGABYTE,
    b"\x00" * _MEGABYTE,
    b'{"Op":0,"Addr":"' + b"x" * _MEGABYTE + b'"}',
)

_ADDRESSES: Final[tuple[object, ...]] = (
    None,
    0,
    True,
    [],
    {},
    "",
    " ",
    ":",
    ":1",
    "host",
    "host:",
    "host:x",
    "host:-1",
    "host:0",
    "host:65536",
    "host:1e3",
    "ho st:1",
    "host:1\n",
    "host:1\x00",
    "::1:1",
    "[::1",
    "\u2603:1",
    "x" * 300 + ":1",
    "unix:/nowhere",
    "dns:///127.0.0.1:1",
)

_METADATA: Final[tuple[object, ...]] = (
    None,
    17,
    "text",
    [],
    {"weight": -1},
    {"weight": "heavy"},
    {"weight": 1e308},
    {"weight": None},
    {"labels": []},
    {"labels": {"name": 17}},
    {"state": 17, "zone": [], "version": {}},
    {"keepalive": -1},
    {"unknown": "x" * _MEGABYTE},
)

GARBAGE: Final[tuple[bytes, ...]] = (
    *_BYTES,
    *(json.dumps({"Op": 0, "Addr": address}).encode() for address in _ADDRESSES),
    *(
        json.dumps({"Op": 0, "Addr": _NOBODY, "Metadata": metadata}).encode()
        for metadata in _METADATA
    ),
    *(json.dumps({"Op": op, "Addr": _NOBODY}).encode() for op in (1, -1, 2**70, "0", None)),
)
