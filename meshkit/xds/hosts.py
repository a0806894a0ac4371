"""IPs for host names: xDS takes no names, and registries may have them (`db:50051` in Compose)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Final, TypeAlias, final

import anyio

from meshkit.events import Emit, HostUnknown

__all__ = ["REFRESH", "Hosts", "look_up"]

LookUp: TypeAlias = Callable[[str], Awaitable[str]]
"""The IP of a host; raises `OSError`."""

REFRESH: Final = 30.0  # seconds after which a name is looked up again
_PATIENCE: Final = 2.0  # seconds; an answer that takes longer is used the next time


async def look_up(host: str) -> str:
    """The first IP that the system has for `host`.

    Raises:
        OSError: it has none.
    """
    found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return str(found[0][4][0])


@final
class Hosts:
    """Looks host names up; one that cannot be found keeps the IP that it had.

    Args:
        emit: told of names that have never been found, once.
        find: looks one up.
    """

    def __init__(self, emit: Emit, find: LookUp = look_up) -> None:
        self._emit = emit
        self._find = find
        self._known: dict[str, str] = {}
        self._unknown: set[str] = set()

    async def find(self, names: Collection[str]) -> Mapping[str, str]:
        """The IPs of `names`, as far as they are known; bounded."""
        with anyio.move_on_after(_PATIENCE):
            async with anyio.create_task_group() as group:
                for name in names:
                    group.start_soon(self._look_up, name)
        return {name: self._known[name] for name in names if name in self._known}

    async def _look_up(self, name: str) -> None:
        try:
            self._known[name] = await self._find(name)
            self._unknown.discard(name)
        except OSError as error:
            if name not in self._known and name not in self._unknown:
                self._unknown.add(name)
                self._emit(HostUnknown(name, str(error)))
