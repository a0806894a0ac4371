"""After many calls, and after close, nothing is left."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from pathlib import Path

import grpc.aio
import pytest

from meshkit.client.call import Call
from meshkit.client.subchannel import Subchannel
from tests.client.fakes import SHAPES, begin, open_channel, pending, result, serving, until

pytestmark = pytest.mark.anyio


def objects() -> Counter[str]:
    gc.collect()
    ours = (Call, Subchannel, asyncio.Task, asyncio.Event, asyncio.Future, grpc.aio.Call)
    return Counter(type(o).__name__ for o in gc.get_objects() if isinstance(o, ours))


@pytest.mark.parametrize("shape", SHAPES)
async def test_calls_leave_nothing(shape):
    async with serving("a", "b") as servers, open_channel(*servers) as (channel, _):
        for _ in range(20):
            await result(begin(channel, shape, b"x"))
        before = objects(), len(asyncio.all_tasks())
        for _ in range(500):
            await result(begin(channel, shape, b"x"))
        assert pending(channel) == 0
        await until(lambda: len(asyncio.all_tasks()) <= before[1])
        grown = objects() - before[0]
        assert grown.total() < 20, grown  # core may be busy with the last one


async def test_failed_and_waiting_calls_leave_nothing():
    async with open_channel() as (channel, _):
        before = objects()
        for _ in range(200):
            call = begin(channel, "unary_unary", b"x", timeout=60)
            call.add_done_callback(lambda _: None)
            call.cancel()
        del call
        assert (objects() - before).total() == 0
        loop = asyncio.get_running_loop()
        left = [t for t in loop._scheduled if not t.cancelled()]  # type: ignore[attr-defined]
        assert len(left) < 50


OPEN_FILES = Path("/proc/self/fd")


def sockets() -> int:
    return sum(fd.is_socket() for fd in OPEN_FILES.iterdir())


@pytest.mark.skipif(not OPEN_FILES.exists(), reason="counts open files as Linux shows them")
async def test_close_leaves_no_task_and_no_socket():
    async with serving("a", "b") as (a, b):
        for _ in range(2):  # the first time grpc opens what it keeps
            gc.collect()
            tasks, before = len(asyncio.all_tasks()), sockets()
            async with open_channel(a, b) as (channel, resolver):
                for shape in SHAPES:
                    await result(begin(channel, shape, b"x"))
                resolver.say(a)
                begin(channel, "unary_unary", b"sleep:30").cancel()
                assert sockets() > before
            gc.collect()  # a call that somebody holds holds its connection
            await until(lambda before=before: sockets() <= before)
            await until(lambda tasks=tasks: len(asyncio.all_tasks()) <= tasks)


async def test_close_waits_for_no_call_that_somebody_holds():
    async with serving("a") as (server,), open_channel(server) as (channel, _):
        held = begin(channel, "unary_unary", b"sleep:30")
        await until(lambda: server.active)
        held.cancel()
        await channel.close()
        await until(lambda: not [t for t in asyncio.all_tasks() if "connection" in t.get_name()])
        assert held.cancelled()
