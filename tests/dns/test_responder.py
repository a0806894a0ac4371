"""Raw packets to real sockets."""

from __future__ import annotations

import asyncio
import socket

import anyio
import dns.flags
import dns.message
import dns.rcode
import pytest

from meshkit.dns import Responder
from meshkit.dns import responder as module
from meshkit.dns.sockets import Packets
from meshkit.errors import ConfigError
from tests.dns.asking import ask, by_tcp, by_udp, has_flag, question, told
from tests.registry.tasks.fakes import Bench

pytestmark = pytest.mark.anyio

SRV = "_hello._tcp.mesh.local"


@pytest.fixture
async def responder(bench):
    async with Responder(bench.registry, patience=0.5, emit=bench.events.append) as responder:
        yield responder
    assert "task.crashed" not in bench.events.words()


async def test_udp_and_tcp_on_one_port(bench: Bench, responder):
    await bench.write("a")
    assert told(await ask(responder.port, SRV)) == {"SRV 0 25599 50051 a."}
    first, second = await by_tcp(responder.port, question(SRV), question("mesh.local", "NS"))
    assert told(dns.message.from_wire(first)) == {"SRV 0 25599 50051 a."}
    assert told(dns.message.from_wire(second)) == {"NS ns.mesh.local."}


async def test_a_first_question_by_tcp_waits_for_the_registry(bench: Bench, responder):
    await bench.write("a")
    [answer] = await by_tcp(responder.port, question(SRV))
    assert told(dns.message.from_wire(answer)) == {"SRV 0 25599 50051 a."}


async def test_what_is_too_long_for_a_packet_comes_by_tcp(bench: Bench, responder):
    await bench.write(*(f"host{i}" for i in range(100)))
    cut = await ask(responder.port, SRV, size=None)
    assert has_flag(cut, dns.flags.TC)
    [whole] = await by_tcp(responder.port, question(SRV, size=None))
    assert len(told(dns.message.from_wire(whole))) == 100


async def test_malformed_packets_get_no_answer_and_are_counted(responder):
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, remote_addr=("127.0.0.1", responder.port)
    )
    for noise in (b"x", b"\0" * 11, question(SRV)[:-3], question(SRV) + b"more"):
        transport.sendto(noise)
    with pytest.raises(TimeoutError):
        await by_udp(responder.port, b"noise", timeout=0.2)
    transport.close()
    assert responder.counts.malformed == 5
    assert responder.counts.queries == 0
    assert (await ask(responder.port, "mesh.local", "SOA")).rcode() == dns.rcode.NOERROR


async def test_a_malformed_packet_ends_the_connection(responder):
    with pytest.raises(asyncio.IncompleteReadError):
        await by_tcp(responder.port, b"noise")
    assert responder.counts.malformed == 1


async def test_what_was_answered_is_counted(bench: Bench, responder):
    await ask(responder.port, "mesh.local", "SOA")
    await ask(responder.port, "example.com", "A")
    await ask(responder.port, SRV)
    await bench.write("a", service="other")
    await anyio.sleep(0.1)  # the directory has it
    bench.store.go_down()
    await ask(responder.port, "_other._tcp.mesh.local")
    counts = responder.counts
    assert (counts.queries, counts.refused, counts.unknown, counts.failed) == (4, 1, 1, 1)


async def test_a_connection_without_questions_ends(responder, monkeypatch):
    monkeypatch.setattr(module, "_IDLE", 0.05)
    reader, writer = await asyncio.open_connection("127.0.0.1", responder.port)
    with anyio.fail_after(5):
        assert await reader.read() == b""
    writer.close()


async def test_only_so_many_connections(responder, monkeypatch):
    monkeypatch.setattr(module, "_CONNECTIONS", 1)
    first = await asyncio.open_connection("127.0.0.1", responder.port)
    first[1].write(len(question("mesh.local", "NS")).to_bytes(2, "big"))
    await anyio.sleep(0.05)
    with pytest.raises((OSError, EOFError)):  # reset, or closed
        await by_tcp(responder.port, question("mesh.local", "NS"))
    first[1].close()
    await first[1].wait_closed()
    with anyio.fail_after(5):
        while responder._connections:
            await anyio.sleep(0.01)
    assert await by_tcp(responder.port, question("mesh.local", "NS"))


def test_what_the_network_does_not_take_is_dropped():
    sent = []

    class Transport:
        def is_closing(self):
            return False

        def sendto(self, packet, to):
            sent.append(packet)

    packets = Packets(lambda packet, source, back: back.send(packet, source))
    packets.connection_made(Transport())
    packets.datagram_received(b"one", ("127.0.0.1", 1))
    packets.pause_writing()
    packets.datagram_received(b"two", ("127.0.0.1", 1))
    packets.resume_writing()
    packets.datagram_received(b"three", ("127.0.0.1", 1))
    assert sent == [b"one", b"three"]


async def test_a_free_port_is_one_for_both_protocols(bench: Bench):
    async with Responder(bench.registry) as one, Responder(bench.registry) as other:
        assert one.port != other.port


async def test_a_taken_port_is_told(bench: Bench):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1 port {port}"):
            async with Responder(bench.registry, port=port):
                pass


@pytest.mark.parametrize("host", ["localhost", "192.0.2.1"])
async def test_an_address_that_is_not_ours_is_told(bench: Bench, host):
    with pytest.raises(ConfigError, match="cannot listen"):
        async with Responder(bench.registry, host=host):
            pass


@pytest.mark.parametrize("wrong", [{"port": 65536}, {"ttl": -1}, {"zone": ""}])
async def test_an_argument_that_cannot_be_used_is_told(bench: Bench, wrong):
    with pytest.raises(ConfigError):
        async with Responder(bench.registry, **wrong):
            pass


async def test_ipv6(bench: Bench):
    async with Responder(bench.registry, host="::1") as responder:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.settimeout(5)
            sock.sendto(question("mesh.local", "NS"), ("::1", responder.port))
            answer = await asyncio.to_thread(sock.recv, 4096)
    assert told(dns.message.from_wire(answer)) == {"NS ns.mesh.local."}


async def test_nothing_is_left_after_the_block(bench: Bench):
    await bench.write("a")
    bench.registry.watch_services()  # goes on until the registry is closed
    before = asyncio.all_tasks()
    async with Responder(bench.registry) as responder:
        await ask(responder.port, SRV)
        idle = await asyncio.open_connection("127.0.0.1", responder.port)
    assert bench.registry.status().watches == {}
    await anyio.wait_all_tasks_blocked()  # the watch ends
    assert asyncio.all_tasks() - before - {asyncio.current_task()} == set()
    with anyio.fail_after(5):
        assert await idle[0].read() == b""
    idle[1].close()
