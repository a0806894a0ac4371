"""The proxy for tests: what goes through, what does not, and that nothing is left of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import anyio
import pytest

from meshkit.testing import TcpProxy

pytestmark = pytest.mark.anyio

SOON = 5.0  # seconds; far more than anything here takes


@contextlib.asynccontextmanager
async def echo_server() -> AsyncIterator[str]:
    """Says back what it hears, and says "bye" at the end."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
            writer.write(b"bye")
            writer.write_eof()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


@pytest.fixture
async def proxy() -> AsyncIterator[TcpProxy]:
    async with echo_server() as target, TcpProxy(target) as proxy:
        yield proxy


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def hear(self, count: int) -> bytes:
        async with asyncio.timeout(SOON):
            return await self.reader.readexactly(count)

    async def hears_nothing(self, seconds: float = 0.1) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self.reader.readexactly(1)
        except TimeoutError:
            return True
        return False


@contextlib.asynccontextmanager
async def connected(proxy: TcpProxy) -> AsyncIterator[Client]:
    host, _, port = proxy.address.rpartition(":")
    client = Client(*await asyncio.open_connection(host, int(port)))
    try:
        yield client
    finally:
        client.writer.transport.abort()
        await asyncio.sleep(0)


async def test_forwards_both_ways_until_both_ends_are_done(proxy: TcpProxy) -> None:
    async with connected(proxy) as client:
        await client.say(b"hello")
        assert await client.hear(5) == b"hello"
        assert (proxy.connections, proxy.accepted) == (1, 1)
        client.writer.write_eof()
        async with asyncio.timeout(SOON):
            assert await client.reader.read() == b"bye"
    async with connected(proxy) as client:
        await client.say(b"x" * 1_000_000)
        assert await client.hear(1_000_000)
    assert proxy.accepted == 2


async def test_delays_what_is_sent_and_keeps_its_order(proxy: TcpProxy) -> None:
    async with connected(proxy) as client:
        proxy.delay(0.1)
        began = anyio.current_time()
        for word in (b"one", b"two", b"six"):
            await client.say(word)
            await anyio.sleep(0.02)
        assert await client.hear(9) == b"onetwosix"
        # Each direction is late once, however many pieces there are.
        assert 0.2 <= anyio.current_time() - began < 0.2 + 0.04 + 0.3


async def test_limits_the_rate(proxy: TcpProxy) -> None:
    async with connected(proxy) as client:
        proxy.limit(1_000_000)
        began = anyio.current_time()
        await client.say(b"x" * 300_000)
        await client.hear(300_000)
        assert anyio.current_time() - began >= 0.2


async def test_pauses_and_delivers_everything_afterwards(proxy: TcpProxy) -> None:
    async with connected(proxy) as client:
        proxy.pause()
        await client.say(b"hello")
        client.writer.write_eof()
        assert await client.hears_nothing()
        async with connected(proxy) as late:
            await late.say(b"late")
            assert await late.hears_nothing()
            proxy.heal()
            assert await client.hear(8) == b"hellobye"
            assert await late.hear(4) == b"late"


async def test_a_target_that_breaks_is_not_noticed_while_nothing_passes() -> None:
    async with contextlib.AsyncExitStack() as stack:
        target = await stack.enter_async_context(TcpProxy("127.0.0.1:1"))
        proxy = await stack.enter_async_context(TcpProxy(target.address))
        target.pause()
        client = await stack.enter_async_context(connected(proxy))
        await anyio.sleep(0.05)
        proxy.pause()
        target.heal()  # it cannot connect, and resets
        assert await client.hears_nothing()
        proxy.heal()
        with pytest.raises(ConnectionResetError):
            await client.hear(1)


async def test_strands_what_is_open_for_ever_and_serves_new_ones(proxy: TcpProxy) -> None:
    async with connected(proxy) as old:
        await old.say(b"a")
        assert await old.hear(1) == b"a"
        proxy.strand()
        await old.say(b"b")
        assert await old.hears_nothing()
        async with connected(proxy) as new:
            await new.say(b"c")
            assert await new.hear(1) == b"c"
        proxy.heal()
        assert await old.hears_nothing()


async def test_resets_what_is_open(proxy: TcpProxy) -> None:
    async with connected(proxy) as client:
        await client.say(b"hello")
        await client.hear(5)
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            await client.hear(1)
    async with connected(proxy) as client:
        await client.say(b"hello")
        assert await client.hear(5) == b"hello"


async def test_a_reset_under_a_flow_of_data_is_no_error(
    proxy: TcpProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is met where data come from and where they go, at once or one after the other."""
    told: list[object] = []
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "call_exception_handler", told.append)
    for _ in range(30):
        async with connected(proxy) as client:
            with contextlib.suppress(ConnectionError):
                await client.say(b"x" * 300_000)
                await client.hear(100_000)
            proxy.reset()
            await anyio.lowlevel.checkpoint()
    assert told == []


async def test_half_closes(proxy: TcpProxy) -> None:
    async with connected(proxy) as client:
        await client.say(b"hello")
        await client.hear(5)
        proxy.half_close()
        async with asyncio.timeout(SOON):
            assert await client.reader.read() == b""
        await client.say(b"into the void")  # no error: this direction is open
        assert proxy.connections == 1


@pytest.mark.parametrize("fault", ["refuse", "cut"])
async def test_refuses_new_connections(proxy: TcpProxy, fault: str) -> None:
    async with connected(proxy) as old:
        await old.say(b"hello")
        await old.hear(5)
        getattr(proxy, fault)()
        async with connected(proxy) as client:
            with pytest.raises(ConnectionResetError):
                await client.hear(1)
        if fault == "refuse":
            await old.say(b"still")
            assert await old.hear(5) == b"still"
        else:
            with pytest.raises(ConnectionResetError):
                await old.hear(1)
        proxy.heal()
        async with connected(proxy) as client:
            await client.say(b"again")
            assert await client.hear(5) == b"again"


async def test_a_target_that_is_not_there_is_a_reset() -> None:
    async with TcpProxy("127.0.0.1:1") as proxy, connected(proxy) as client:
        with pytest.raises(ConnectionResetError):
            await client.hear(1)


async def test_leaves_nothing_behind_whatever_is_under_way() -> None:
    before = asyncio.all_tasks()
    async with echo_server() as target:
        proxy = TcpProxy(target)
        await asyncio.create_task(proxy.__aenter__())  # closed by another task, as fixtures are
        async with connected(proxy) as client:
            proxy.pause()
            await client.say(b"x" * 500_000)
            await anyio.sleep(0.05)
            await proxy.__aexit__(None, None, None)
            with pytest.raises(ConnectionResetError):
                await client.hear(1)
        with pytest.raises(OSError):
            async with connected(proxy):
                pass
        await anyio.sleep(0.05)  # the target's own task sees the reset
    assert asyncio.all_tasks() == before
    assert proxy.connections == 0
