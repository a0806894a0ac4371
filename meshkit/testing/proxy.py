"""A TCP proxy on loopback that does to a connection what networks do."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from types import TracebackType
from typing import Final, Self, final

import anyio
import anyio.abc
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from meshkit.events import Event
from meshkit.latest import Latest
from meshkit.tasks import Supervisor

__all__ = ["TcpProxy"]

_CHUNK: Final = 65536  # bytes
_UNDER_WAY: Final = 256  # chunks that a slow line holds before the sender has to wait
_NO_LINGER: Final = struct.pack("ii", 1, 0)  # a close is a reset


@final
class TcpProxy:
    """Forwards connections to `target`, and can hurt them; runs for the length of its block.

    Faults add up until `heal`, which ends all of them; connections that were broken stay broken.
    The block may be opened in one task and closed in another, and leaves no task and no socket.

    Args:
        target: `host:port`.
        port: on 127.0.0.1 to listen on; 0: a free one.
    """

    def __init__(self, target: str, *, port: int = 0) -> None:
        host, _, number = target.rpartition(":")
        self._target = (host.strip("[]"), int(number))
        self._port = port
        self._supervisor = Supervisor(_report)
        self._server: asyncio.Server | None = None
        self._pairs: set[_Pair] = set()
        self._line = _Line(delay=0.0, rate=None, held=False)
        self._refuses = False
        self.accepted = 0

    @property
    def address(self) -> str:
        """`127.0.0.1:port` for clients."""
        return f"127.0.0.1:{self._port}"

    @property
    def connections(self) -> int:
        """How many are open now; `accepted` counts all that ever came."""
        return len(self._pairs)

    # -- faults

    def delay(self, seconds: float) -> None:
        """Deliver everything so much later, in both directions."""
        self._line.delay = seconds

    def limit(self, bytes_per_second: float) -> None:
        """Let so many bytes pass per second, connection and direction."""
        self._line.rate = bytes_per_second

    def pause(self) -> None:
        """Let nothing through; connections stay, new ones are made. After `heal` all arrives."""
        self._line.held.set(True)

    def refuse(self) -> None:
        """Reset each new connection."""
        self._refuses = True

    def reset(self) -> None:
        """Reset (RST) the connections that are open now, on both sides."""
        for pair in self._pairs:
            pair.reset()

    def half_close(self) -> None:
        """Send FIN to the clients that are connected now; what they send still arrives."""
        for pair in self._pairs:
            pair.half_close()

    def strand(self) -> None:
        """Let nothing more through on the connections that are open now, for ever; new ones work.

        So do routers that forget: neither side hears of it.
        """
        old = self._line
        self._line = _Line(delay=old.delay, rate=old.rate, held=old.held.value)
        old.held.set(True)

    def cut(self) -> None:
        """Reset the connections, and each new one."""
        self.refuse()
        self.reset()

    def heal(self) -> None:
        """Forward at once again, new connections included."""
        self._refuses = False
        self._line.delay = 0.0
        self._line.rate = None
        self._line.held.set(False)

    # -- lifetime

    async def __aenter__(self) -> Self:
        await self._supervisor.open()
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._server is not None:
            self._server.close()
        self.reset()
        await self._supervisor.aclose()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        if self._refuses:
            _reset(writer)
        else:
            self._supervisor.start("connection of a proxy", self._forward, reader, writer)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = self._line
        await line.open()
        try:
            from_target, to_target = await asyncio.open_connection(*self._target)
        except OSError:
            _reset(writer)
            return
        pair = _Pair(
            _Direction(reader, to_target, line),
            _Direction(from_target, writer, line),
        )
        self._pairs.add(pair)
        try:
            await pair.run()
            await line.open()  # nor does a reset get through
        finally:
            self._pairs.discard(pair)
            pair.reset()


@final
class _Line:
    """The state of the wire, for all connections."""

    __slots__ = ("delay", "held", "rate")

    def __init__(self, *, delay: float, rate: float | None, held: bool) -> None:
        self.delay = delay
        self.rate = rate
        self.held = Latest(held)

    async def open(self) -> None:
        """Return when something may pass."""
        while self.held.value:
            await self.held.changed()


@final
class _Direction:
    """One direction of a connection."""

    def __init__(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, line: _Line
    ) -> None:
        self._source = source
        self._sink = sink
        self._line = line
        self._ended = False

    async def run(self) -> None:
        """Forward until the source ends; raises OSError if the connection broke."""
        send, receive = anyio.create_memory_object_stream[tuple[float, bytes]](_UNDER_WAY)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._take, send)
            tasks.start_soon(self._deliver, receive)

    async def _take(self, send: MemoryObjectSendStream[tuple[float, bytes]]) -> None:
        async with send:
            data = b"to be read"
            while data:  # the end, an empty one, travels like all else
                data = await self._source.read(_CHUNK)
                await send.send((anyio.current_time(), data))

    async def _deliver(self, receive: MemoryObjectReceiveStream[tuple[float, bytes]]) -> None:
        line = self._line
        async with receive:
            async for taken_at, data in receive:
                await anyio.sleep(max(0.0, taken_at + line.delay - anyio.current_time()))
                await line.open()
                if not data:
                    self.end()
                if not self._ended:
                    self._sink.write(data)
                    await self._sink.drain()
                if line.rate is not None:
                    await anyio.sleep(len(data) / line.rate)

    def end(self) -> None:
        """Send FIN; what comes after it is dropped."""
        if not self._ended:
            self._ended = True
            with contextlib.suppress(OSError):  # it may have been reset
                self._sink.write_eof()

    def reset(self) -> None:
        """Send RST."""
        _reset(self._sink)


@final
class _Pair:
    """A connection: from the client to the proxy, and from there to the target."""

    def __init__(self, there: _Direction, back: _Direction) -> None:
        self._there = there
        self._back = back

    async def run(self) -> None:
        """Forward until both directions have ended, or one broke."""
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._there.run)
                tasks.start_soon(self._back.run)
        except* (OSError, anyio.BrokenResourceError):
            pass  # it broke, on one side or both, which is what connections do

    def half_close(self) -> None:
        """End the direction to the client."""
        self._back.end()

    def reset(self) -> None:
        """Break both sides."""
        self._there.reset()
        self._back.reset()


def _reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):  # it may be closed already
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    writer.transport.abort()


def _report(event: Event) -> None:
    """A bug of the proxy itself: told as asyncio tells of any task that crashed."""
    asyncio.get_running_loop().call_exception_handler({"message": f"proxy: {event}"})
