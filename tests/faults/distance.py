"""Puts a server far away: what is sent to it, and by it, arrives later.

On one machine news travel faster than any server can stop; between data centres they do not.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from meshkit.server.options import ServerKeywords
from meshkit.testing.etcd import free_ports

__all__ = ["place"]

_CHUNK = 1 << 16
_LINGER = 2.0  # seconds


@asynccontextmanager
async def place(distance: float, port: int) -> AsyncIterator[ServerKeywords]:
    """Where a server is to listen, so that clients who dial `port` (0: any) are so far away.

    Args:
        distance: seconds that a message takes; for 0 the clients dial the server itself.
        port: what they dial.
    """
    if not distance:
        yield {"port": port}
        return
    (hidden,) = free_ports(1)
    lines: set[asyncio.Task[None]] = set()

    async def relay(near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        try:
            far, there = await asyncio.open_connection("127.0.0.1", hidden)
        except ConnectionError:  # it listens no more
            back.close()
            return
        lines.add(asyncio.create_task(_carry(near, there, distance)))
        lines.add(asyncio.create_task(_carry(far, back, distance)))

    async with await asyncio.start_server(relay, "127.0.0.1", port) as server:
        dialled = server.sockets[0].getsockname()[1]
        yield {"port": hidden, "advertise": f"127.0.0.1:{dialled}"}
    if lines:  # what the server said last is still under way
        await asyncio.wait(lines, timeout=_LINGER)


async def _carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter, seconds: float) -> None:
    clock = asyncio.get_running_loop().time
    under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def depart() -> None:
        with suppress(ConnectionError):
            while chunk := await source.read(_CHUNK):
                under_way.put_nowait((clock() + seconds, chunk))
        under_way.put_nowait((clock() + seconds, b""))

    async def arrive() -> None:
        while True:
            due, chunk = await under_way.get()
            await asyncio.sleep(due - clock())
            if not chunk:
                sink.close()
                return
            sink.write(chunk)

    await asyncio.gather(depart(), arrive())
