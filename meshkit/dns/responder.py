"""The sockets: queries in, answers out, by UDP and TCP on one port."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Final, Self, final

import anyio
import dns.exception
import dns.message
from dns import rcode

from meshkit.discovery import Directory
from meshkit.dns.answers import Answers, Query, read_query
from meshkit.dns.authority import Authority
from meshkit.dns.sockets import Packets, Source, bind
from meshkit.dns.zone import Zone
from meshkit.errors import ConfigError
from meshkit.events import Emit, emit_to
from meshkit.tasks import Supervisor

__all__ = ["DNSCounts", "Responder"]

_IDLE: Final = 10.0  # seconds that a TCP connection may take for a query and its answer
_CONNECTIONS: Final = 200
_MAX_TCP_SIZE: Final = 65535
_MAX_TTL: Final = 604800  # a week; a slip rather than a wish beyond it


@final
@dataclass(frozen=True, slots=True)
class DNSCounts:
    """What a responder has seen.

    Attributes:
        queries: what could be read.
        malformed: packets that were no query, and got no answer.
        refused: queries that are not ours to answer, such as those for other zones.
        unknown: queries for names that do not exist.
        failed: queries that the registry had no answer for in time.
    """

    queries: int = 0
    malformed: int = 0
    refused: int = 0
    unknown: int = 0
    failed: int = 0


@final
class Responder:
    """A DNS server for the services of a registry, for the length of a block.

    HAProxy's `server-template`, nginx's `resolver` and gRPC's `dns:///` follow the registry with
    it. It answers for one zone only: it is no resolver for programs that ask for other names, too.

    Args:
        directory: knows the services and their endpoints.
        zone: the domain below which the services are.
        host: the IP address to listen on.
        port: 0 lets the system choose.
        ttl: seconds for which others may remember an answer.
        patience: seconds for which an answer is held while the registry has not told us yet.
        emit: receives `TaskCrashed`.

    Attributes:
        port: where it listens.
        counts: what it has seen.

    Raises:
        ConfigError: an argument cannot be used, or (on entering) the address cannot be had.
    """

    def __init__(
        self,
        directory: Directory,
        *,
        zone: str = "mesh.local",
        host: str = "127.0.0.1",
        port: int = 0,
        ttl: int = 1,
        patience: float = 2.0,
        emit: Emit | None = None,
    ) -> None:
        if not 0 <= ttl <= _MAX_TTL:
            raise ConfigError(f"ttl is seconds, 0 to {_MAX_TTL}, got {ttl}")
        self._zone = Zone(zone)
        self._authority = Authority(directory, Answers(self._zone, ttl), patience=patience)
        self._supervisor = Supervisor(emit or emit_to(()))
        self._sockets = ExitStack()
        self._connections = 0
        self.host: Final = host
        self.port = port
        self.counts = DNSCounts()

    async def __aenter__(self) -> Self:
        udp, tcp = bind(self.host, self.port)
        self._sockets.callback(udp.close)
        self._sockets.callback(tcp.close)
        self.port = udp.getsockname()[1]
        await self._supervisor.open()
        loop = asyncio.get_running_loop()
        packets, _ = await loop.create_datagram_endpoint(lambda: Packets(self._receive), sock=udp)
        self._sockets.callback(packets.abort)
        server = await asyncio.start_server(self._connected, sock=tcp)
        self._sockets.callback(server.close)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._sockets.close()
        await self._supervisor.aclose()
        self._authority.close()

    # ---- UDP

    def _receive(self, packet: bytes, source: Source, back: Packets) -> None:
        query = self._read(packet)
        if query is None:
            return
        answer = self._authority.answer(query)
        if answer is None:
            self._supervisor.start("dns query", self._send_later, query, source, back)
        else:
            self._send(query, answer, source, back)

    async def _send_later(self, query: Query, source: Source, back: Packets) -> None:
        self._send(query, await self._authority.wait(query), source, back)

    def _send(
        self,
        query: Query,
        answer: dns.message.Message,
        source: Source,
        back: Packets,
    ) -> None:
        back.send(self._write(answer, query.udp_size), source)

    # ---- TCP

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._connections >= _CONNECTIONS:
            writer.transport.abort()
            return
        self._connections += 1
        self._supervisor.start("dns connection", self._converse, reader, writer)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.set_write_buffer_limits(0)  # so that `drain` waits for all of it
        try:
            while True:
                with anyio.fail_after(_IDLE):
                    if not await self._exchange(reader, writer):
                        break
        except (EOFError, OSError):  # it went, or took too long
            writer.transport.abort()
        finally:
            self._connections -= 1
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one query, if it is one."""
        size = int.from_bytes(await reader.readexactly(2), "big")
        query = self._read(await reader.readexactly(size))
        if query is None:
            return False
        answer = self._authority.answer(query) or await self._authority.wait(query)
        wire = self._write(answer, _MAX_TCP_SIZE)
        writer.write(len(wire).to_bytes(2, "big") + wire)
        await writer.drain()
        return True

    # ---- both

    def _read(self, packet: bytes) -> Query | None:
        """What a packet asks; None if it asks nothing."""
        counts = self.counts
        try:
            query = read_query(packet, self._zone)
        except dns.exception.DNSException:
            self.counts = replace(counts, malformed=counts.malformed + 1)
            return None
        self.counts = replace(counts, queries=counts.queries + 1)
        return query

    def _write(self, answer: dns.message.Message, size: int) -> bytes:
        counts = self.counts
        match answer.rcode():
            case rcode.REFUSED:
                self.counts = replace(counts, refused=counts.refused + 1)
            case rcode.NXDOMAIN:
                self.counts = replace(counts, unknown=counts.unknown + 1)
            case rcode.SERVFAIL:
                self.counts = replace(counts, failed=counts.failed + 1)
        return answer.to_wire(max_size=size, prefer_truncation=True)
