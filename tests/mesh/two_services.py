"""A program with two services, of which one calls the other; its argument names the loop."""

from __future__ import annotations

import asyncio
import sys

import anyio
import grpc
import pytest

import meshkit
from examples.hello.helloworld_pb2 import HelloReply, HelloRequest
from examples.hello.helloworld_pb2_grpc import GreeterServicer, GreeterStub
from meshkit import AdaptiveLimit, LoadReports, Mesh, Quiet

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


async def main() -> None:
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


def loop_factory(name: str):
    if name == "uvloop":
        import uvloop

        return uvloop.new_event_loop
    return asyncio.new_event_loop


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=loop_factory(sys.argv[1])) as runner:
        runner.run(main())
        print(type(runner.get_loop()).__module__.split(".")[0], "ended well")
