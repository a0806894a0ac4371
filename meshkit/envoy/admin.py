"""The admin page of an Envoy."""

from __future__ import annotations

import asyncio
import io
import json
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPResponse
from pathlib import Path
from typing import Final, final
from urllib.parse import quote

import anyio

__all__ = ["Admin", "InUse"]

_TIMEOUT: Final = 5.0  # seconds
_IN_USE: Final = r"^http\..*downstream_(cx|rq)_active$"
_OWN: Final = "http.admin."


@final
@dataclass(frozen=True, slots=True)
class InUse:
    """What an Envoy is doing: connections of clients, and calls on them."""

    connections: int
    calls: int


@final
class Admin:
    """Asks an Envoy, and tells it things.

    Args:
        address: of the page: a Unix socket, or host and port.
    """

    def __init__(self, address: Path | tuple[str, int]) -> None:
        self._address = address

    async def is_ready(self) -> bool:
        """Whether it has its configuration and serves; False if it cannot be asked, too."""
        try:
            return await self._request("GET", "/ready") is not None
        except OSError:
            return False

    async def in_use(self) -> InUse:
        """How much it is used now."""
        page = await self._request("GET", f"/stats?format=json&filter={quote(_IN_USE)}")
        stats = json.loads(page or b'{"stats": []}')["stats"]
        values = [
            (stat["name"], stat["value"])
            for stat in stats
            if "name" in stat and not stat["name"].startswith(_OWN)
        ]
        return InUse(
            connections=sum(value for name, value in values if name.endswith("_cx_active")),
            calls=sum(value for name, value in values if name.endswith("_rq_active")),
        )

    async def leave(self) -> None:
        """Fail health checks, and have each client connect anew, elsewhere if it can."""
        await self._request("POST", "/healthcheck/fail")

    async def stop_listening(self) -> None:
        """Take no more connections."""
        await self._request("POST", "/drain_listeners")

    async def _request(self, method: str, path: str) -> bytes | None:
        """The page; None if there is none.

        Raises:
            OSError: it cannot be reached, or takes longer than 5 seconds.
        """
        words = (f"{method} {path} HTTP/1.1", "Host: envoy", "Connection: close")
        with anyio.fail_after(_TIMEOUT):
            if isinstance(self._address, Path):
                reader, writer = await asyncio.open_unix_connection(self._address)
            else:
                reader, writer = await asyncio.open_connection(*self._address)
            try:
                writer.write("\r\n".join((*words, "Content-Length: 0", "", "")).encode())
                whole = _Read(await reader.read())
            finally:
                writer.close()
        reply = HTTPResponse(whole, method=method)  # type: ignore[arg-type] # no real socket
        reply.begin()
        return reply.read() if reply.status == HTTPStatus.OK else None


@final
class _Read:
    """What was read of a socket, for `HTTPResponse`, which wants the socket."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def makefile(self, _mode: str) -> io.BytesIO:
        return io.BytesIO(self._content)
