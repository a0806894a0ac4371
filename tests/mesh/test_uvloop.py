"""A whole mesh on uvloop, and the same on asyncio's own loop: two services, one calls the other."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable

import anyio
import grpc
import pytest

import meshkit
from examples.hello.helloworld_pb2 import HelloReply, HelloRequest
from examples.hello.helloworld_pb2_grpc import GreeterServicer, GreeterStub
from meshkit import AdaptiveLimit, LoadReports, Mesh, Quiet

uvloop = pytest.importorskip("uvloop")

SERVED = {
    "limit": AdaptiveLimit(),
    "load_reports": LoadReports(period=0.05),
    "quiet": Quiet(at_least=0.05, window=0.05),
}


class Back(GreeterServicer):
    """Tells how long it may take; `slow` takes longer than anybody waits."""

    async def SayHello(self, request, context):
        if request.name == "slow":
            await asyncio.sleep(30)
        return HelloReply(message=f"{meshkit.time_remaining():.3f}")


class Front(GreeterServicer):
    """Asks `Back`, without a timeout of its own."""

    def __init__(self, back: GreeterStub) -> None:
        self.back = back

    async def SayHello(self, request, context):
        if request.name == "late":
            await asyncio.sleep(0.3)
            return HelloReply(message="late")
        if request.name == "own":
            return await self.back.SayHello(HelloRequest(name="own"), timeout=1.0)
        return await self.back.SayHello(request)


async def scene() -> None:
    async with Mesh("memory://uvloop") as mesh, mesh.serve("back", Back(), **SERVED) as back:
        front = Front(GreeterStub(await mesh.channel("back")))
        async with mesh.serve("front", front, **SERVED) as server:
            stub = GreeterStub(await mesh.channel("front"))

            async def left(name: str, timeout: float) -> float:
                return float(
                    (await stub.SayHello(HelloRequest(name=name), timeout=timeout)).message
                )

            assert 20 < await left("ada", 30.0) <= 30.5
            assert await left("own", 30.0) <= 1.5
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.SayHello(HelloRequest(name="slow"), timeout=0.2)
            assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            with anyio.fail_after(5):
                while back.in_flight:  # it works for nobody any more
                    await asyncio.sleep(0.01)
            late = stub.SayHello(HelloRequest(name="late"), timeout=30.0)
            with anyio.fail_after(5):
                while not server.in_flight:
                    await asyncio.sleep(0.01)
            await server.drain()
            assert (await late).message == "late"


@pytest.mark.parametrize("loop_factory", [uvloop.new_event_loop, asyncio.new_event_loop])
def test_two_services(loop_factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def main() -> None:
        await scene()
        await asyncio.sleep(0.1)  # core's last words to this loop
        assert asyncio.all_tasks() == {asyncio.current_task()}

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


def test_meshkit_leaves_the_choice_of_the_loop_to_the_program() -> None:
    code = """
import asyncio, sys, meshkit

async def main():
    async with meshkit.Mesh("memory://loop"):
        return type(asyncio.get_running_loop()).__module__

sys.exit("uvloop" in sys.modules or not asyncio.run(main()).startswith("asyncio."))
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
