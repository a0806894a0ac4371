"""Queries as programs send them, by hand: raw packets, no resolver in between."""

from __future__ import annotations

import asyncio

import dns.flags
import dns.message
import dns.rdatatype

from meshkit.endpoint import Endpoint, EndpointSet

ORIGIN = "mesh.local"


def question(name: str, kind: str = "SRV", *, size: int | None = 8192, **keywords) -> bytes:
    edns = {"use_edns": False} if size is None else {"use_edns": 0, "payload": size}
    return dns.message.make_query(name, kind, **edns, **keywords).to_wire()


async def by_udp(port: int, packet: bytes, *, timeout: float = 5.0) -> bytes:
    """The answer; TimeoutError without one."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[bytes] = loop.create_future()

    class Asker(asyncio.DatagramProtocol):
        def datagram_received(self, data, addr):
            if not answer.done():
                answer.set_result(data)

    transport, _ = await loop.create_datagram_endpoint(Asker, remote_addr=("127.0.0.1", port))
    try:
        transport.sendto(packet)
        async with asyncio.timeout(timeout):
            return await answer
    finally:
        transport.close()


async def by_tcp(port: int, *packets: bytes) -> list[bytes]:
    """The answers to queries on one connection, all sent before the first is read."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for packet in packets:
            writer.write(len(packet).to_bytes(2, "big") + packet)
        answers = []
        async with asyncio.timeout(10.0):
            for _ in packets:
                size = int.from_bytes(await reader.readexactly(2), "big")
                answers.append(await reader.readexactly(size))
        return answers
    finally:
        writer.close()
        await writer.wait_closed()


async def ask(port: int, name: str, kind: str = "SRV", **keywords) -> dns.message.Message:
    return dns.message.from_wire(await by_udp(port, question(name, kind, **keywords)))


def told(message: dns.message.Message, section: str = "answer") -> set[str]:
    """The records of a section: kind and value."""
    return {
        f"{dns.rdatatype.to_text(rrset.rdtype)} {record}"
        for rrset in getattr(message, section)
        for record in rrset
    }


def has_flag(message: dns.message.Message, flag: dns.flags.Flag) -> bool:
    return bool(message.flags & flag)


def endpoints(*addresses: str, service: str = "hello_service", **fields) -> EndpointSet:
    return EndpointSet.of(
        service, (Endpoint(service=service, id=a, address=a, **fields) for a in addresses)
    )
