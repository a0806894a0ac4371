"""The network between the members of a cluster: a line for each of them to each other one.

All know a member by one address. Who dials there is told by whose socket it is (Linux).
"""

from __future__ import annotations

import asyncio
import itertools
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from anyio import to_thread

from meshkit.testing.etcd import EtcdProcess, free_ports
from meshkit.testing.proxy import TcpProxy

__all__ = ["PeerNetwork"]

_CHUNK: Final = 65536  # bytes


class PeerNetwork:
    """A cluster and all lines between its members, running for the length of a block.

    Args:
        size: how many members.
    """

    def __init__(self, size: int) -> None:
        numbers, ports = range(size), free_ports(2 * size)
        self._dialled, listening = ports[:size], ports[size:]
        self._lines = {
            (of, to): TcpProxy(f"127.0.0.1:{listening[to]}")
            for of, to in itertools.product(numbers, repeat=2)  # they may ask themselves, too
        }
        peers = [f"m{n}=http://127.0.0.1:{port}" for n, port in enumerate(self._dialled)]
        self.members = [
            EtcdProcess(
                name=f"m{n}",
                peers=peers,
                flags=("--listen-peer-urls", f"http://127.0.0.1:{listening[n]}"),
            )
            for n in numbers
        ]
        self._calls: set[asyncio.Task[None]] = set()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            for line in self._lines.values():
                await stack.enter_async_context(line)
            stack.push_async_callback(self._hang_up)
            for member in self.members:
                stack.push_async_callback(to_thread.run_sync, member.stop)
            for to, port in enumerate(self._dialled):
                server = await asyncio.start_server(partial(self._connect, to), "127.0.0.1", port)
                stack.callback(server.close)  # first of all: what came until then, is hung up
            for member in self.members:
                await to_thread.run_sync(member.launch)
            for member in self.members:
                await to_thread.run_sync(member.wait_ready)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    async def _hang_up(self) -> None:
        for call in self._calls:
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)

    def cut_off(self, member: EtcdProcess) -> None:
        """Nothing gets through from `member` to the others, nor from them to it, until `heal`."""
        number = self.members.index(member)
        for (of, to), line in self._lines.items():
            if (of == number) != (to == number):
                line.pause()

    def heal(self) -> None:
        """All lines carry again, and first what was sent meanwhile."""
        for line in self._lines.values():
            line.heal()

    def _connect(self, to: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        call = asyncio.ensure_future(self._carry(to, reader, writer))
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)
        call.add_done_callback(lambda _: writer.transport.abort())  # even if it never began

    async def _carry(
        self, to: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """A call to member `to`, over the line from its caller."""
        with suppress(ConnectionError):
            port = writer.get_extra_info("peername")[1]
            line = self._lines[self._caller(port, self._dialled[to]), to]
            from_line, to_line = await asyncio.open_connection(*line.address.split(":"))
            try:
                await asyncio.gather(_pump(reader, to_line), _pump(from_line, writer))
            finally:
                to_line.transport.abort()

    def _caller(self, port: int, dialled: int) -> int:
        """Which member dials from a port; ConnectionError if none does."""
        for number, member in enumerate(self.members):
            if (port, dialled) in _connections(member):
                return number
        raise ConnectionError(f"no member dialled from port {port}")


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    """Carry one direction; its end is that of the other one, too."""
    with suppress(ConnectionError):
        while chunk := await source.read(_CHUNK):
            sink.write(chunk)
            await sink.drain()
    with suppress(ConnectionError):
        sink.close()
        await sink.wait_closed()


def _connections(member: EtcdProcess) -> set[tuple[int, int]]:
    """The ports on both sides, its own first, of all TCP sockets of a member that runs."""
    sockets: set[str] = set()
    with suppress(OSError, RuntimeError):  # it, or a descriptor of it, is gone
        for file in Path(f"/proc/{member.pid}/fd").iterdir():
            with suppress(OSError):
                sockets.add(str(file.readlink()))
    rows = (row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:])
    return {(_port(row[1]), _port(row[2])) for row in rows if f"socket:[{row[9]}]" in sockets}


def _port(address: str) -> int:
    return int(address.rpartition(":")[2], 16)
