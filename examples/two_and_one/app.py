"""One process that serves two services on one port and calls a third.

python -m examples.two_and_one.app

`front_service` passes greetings on to `hello_service`, which some other process serves
(python -m examples.hello.server); `clock_service` answers by itself.
"""

import asyncio
from datetime import datetime

import grpc

from examples.hello.helloworld_pb2 import HelloReply, HelloRequest
from examples.hello.helloworld_pb2_grpc import GreeterServicer, GreeterStub
from examples.two_and_one.clock_pb2 import NowReply, NowRequest
from examples.two_and_one.clock_pb2_grpc import ClockServicer
from meshkit import Mesh


class Front(GreeterServicer):
    """Greets through the third service."""

    def __init__(self, third: GreeterStub) -> None:
        self._third = third

    async def SayHello(self, request: HelloRequest, context) -> HelloReply:
        try:
            reply = await self._third.SayHello(request, timeout=context.time_remaining())
        except grpc.aio.AioRpcError as error:
            await context.abort(error.code(), error.details())
        return HelloReply(message=f"{reply.message}, through the front")


class Clock(ClockServicer):
    """Tells the time."""

    async def Now(self, request: NowRequest, context) -> NowReply:
        return NowReply(time=f"{datetime.now():%H:%M:%S}")


async def main() -> None:
    async with Mesh() as mesh, mesh.channel("hello_service") as third:
        services = {"front_service": Front(GreeterStub(third)), "clock_service": Clock()}
        async with mesh.serve(services) as server:
            print(f"serving {' and '.join(services)} on {server.address}", flush=True)
            await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
