"""A server that speaks just enough HTTP/2 to turn calls away: Python's gRPC server never does."""

from __future__ import annotations

import asyncio
import struct
from typing import Final, Self

from meshkit.endpoint import Endpoint

HEADERS: Final = 1
RST_STREAM: Final = 3
SETTINGS: Final = 4
PING: Final = 6
GOAWAY: Final = 7
_ACK: Final = 1


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """RFC 9113, section 4.1."""
    return len(payload).to_bytes(3, "big") + struct.pack(">BBI", kind, flags, stream) + payload


def _field(name: bytes, value: bytes) -> bytes:
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


_UNIMPLEMENTED: Final = (
    b"\x88" + _field(b"content-type", b"application/grpc") + _field(b"grpc-status", b"12")
)


class TurnsAway:
    """Answers UNIMPLEMENTED to the first two calls of a connection, which ask for its health.

    Each later one gets `RST_STREAM` with REFUSED_STREAM, or a `GOAWAY` that excludes it.
    """

    def __init__(self, how: int) -> None:
        self._how = how
        self.turned_away = 0

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._port = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listener.close()

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(service="echo", id="away", address=f"127.0.0.1:{self._port}")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        calls = 0
        writer.write(frame(SETTINGS, 0, 0))
        try:
            await reader.readexactly(24)
            while True:
                head = await reader.readexactly(9)
                kind, flags, stream = struct.unpack(">BBI", head[3:])
                payload = await reader.readexactly(int.from_bytes(head[:3], "big"))
                if kind in (SETTINGS, PING) and not flags & _ACK:
                    writer.write(frame(kind, _ACK, 0, payload if kind == PING else b""))
                elif kind == HEADERS:
                    calls += 1
                    writer.write(self._answer(stream, calls))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def _answer(self, stream: int, calls: int) -> bytes:
        if calls <= 2:
            return frame(HEADERS, 5, stream, _UNIMPLEMENTED)  # END_STREAM, END_HEADERS
        self.turned_away += 1
        if self._how == RST_STREAM:
            return frame(RST_STREAM, 0, stream, struct.pack(">I", 7))
        return frame(GOAWAY, 0, 0, struct.pack(">II", stream - 2, 0))
