"""A smoke on other loops than the standard one: uvloop, and asyncio with debug mode."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import anyio
import grpc
import pytest

from tests.client.fakes import (
    SHAPES,
    begin,
    error_of,
    method,
    open_channel,
    pending,
    result,
    serving,
    until,
)

uvloop = pytest.importorskip("uvloop")


async def smoke() -> None:
    async with serving("a", "b") as servers, open_channel() as (channel, resolver):
        waiting = [begin(channel, shape, b"x", timeout=10) for shape in SHAPES]
        forever = begin(channel, "unary_unary", b"x", timeout=float("inf"))
        late = await error_of(begin(channel, "unary_unary", b"x", timeout=0.01))
        assert late.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        forever.cancel()
        resolver.say(*servers)
        for call in waiting:
            assert await result(call)
        stream = method(channel, "stream_stream")()
        await stream.write(b"x")
        assert await stream.read() in (b"x@a", b"x@b")
        await stream.done_writing()
        for shape in SHAPES:
            with anyio.move_on_after(0.02) as scope:
                await result(begin(channel, shape, b"sleep:30"))
            assert scope.cancelled_caught
        await until(lambda: pending(channel) == 0)


@pytest.mark.parametrize("debug", [True, False])
@pytest.mark.parametrize("loop_factory", [uvloop.new_event_loop, asyncio.new_event_loop])
def test_smoke(loop_factory: Callable[[], asyncio.AbstractEventLoop], debug: bool) -> None:
    async def main() -> None:
        await smoke()
        await asyncio.sleep(0.1)  # core's last words to this loop

    with asyncio.Runner(loop_factory=loop_factory, debug=debug) as runner:
        runner.run(main())
