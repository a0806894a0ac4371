"""Waiting for calls to cease and to end, in virtual time."""

import asyncio
from types import SimpleNamespace

import anyio
import pytest

from meshkit.server import Quiet
from meshkit.server.calls import Calls
from meshkit.server.drain import Drain, Parts
from meshkit.server.health import Health
from meshkit.testing.virtual_clock import VirtualClockLoop
from tests.server.fakes import Journal

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio", {"loop_factory": VirtualClockLoop}


async def a_call(calls, seconds=0.0):
    """A call as gRPC runs it: interceptor and handler in one task."""

    async def handler(details):
        await anyio.sleep(seconds)

    details = SimpleNamespace(method="/test.Ring/One")
    await asyncio.create_task(calls.intercept_service(handler, details))


async def test_quiet_is_a_while_without_new_calls():
    calls = Calls()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(calls.quiet, Quiet(at_least=0.05, window=0.1, at_most=5.0))
        await anyio.sleep(0.04)
        await a_call(calls)
    assert anyio.current_time() == pytest.approx(0.14)


async def test_quiet_is_at_least_so_long():
    await Calls().quiet(Quiet(at_least=0.5, window=0.1, at_most=5.0))
    assert anyio.current_time() == pytest.approx(0.5)


async def test_quiet_is_not_waited_for_without_end():
    calls = Calls()
    async with anyio.create_task_group() as tasks:

        async def keep_calling():
            while True:
                await a_call(calls)
                await anyio.sleep(0.01)

        tasks.start_soon(keep_calling)
        await calls.quiet(Quiet(at_least=0.05, window=0.1, at_most=0.2))
        assert anyio.current_time() == pytest.approx(0.2)
        tasks.cancel_scope.cancel()


class ScriptedServer:
    """Stands for gRPC's server: does as told when it is asked to stop in good order."""

    def __init__(self, in_good_order):
        self._in_good_order = in_good_order
        self.journal = []

    async def stop(self, grace):
        if grace is None:
            self.journal.append("cut")
        else:
            await self._in_good_order()
            self.journal.append("refused")


async def drained(server, calls, first_call=None):
    parts = Parts(
        address="",
        server=server,
        calls=calls,
        health=Health(),
        registration=None,
        emit=Journal().emit,
    )
    drain = Drain(parts, leave_timeout=1.0, quiet=Quiet(at_least=0.0, window=0.0), grace=5.0)
    async with anyio.create_task_group() as tasks:
        if first_call is not None:
            tasks.start_soon(a_call, calls, first_call)
            await anyio.sleep(0)
        await drain.run()


async def test_the_last_answer_may_be_written_out(monkeypatch):
    monkeypatch.setattr("meshkit.server.drain.FLUSH", 0.1)
    calls = Calls()

    async def write_out():
        await calls.idle()
        await anyio.sleep(0.05)

    server = ScriptedServer(write_out)
    await drained(server, calls, first_call=0.2)
    assert server.journal == ["refused", "cut"]


async def test_a_call_that_was_on_its_way_is_served(monkeypatch):
    monkeypatch.setattr("meshkit.server.drain.FLUSH", 0.1)
    calls = Calls()

    async def one_comes():
        await a_call(calls, 0.3)
        server.journal.append("served")

    server = ScriptedServer(one_comes)
    await drained(server, calls)
    assert server.journal[0] == "served"
