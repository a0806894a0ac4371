"""Greeters for tests of a mesh."""

import asyncio

from examples.hello.helloworld_pb2 import HelloReply, HelloRequest
from examples.hello.helloworld_pb2_grpc import GreeterServicer, GreeterStub
from meshkit.server import Quiet

AT_ONCE = Quiet(at_least=0, window=0, at_most=0)


class Greeter(GreeterServicer):
    """Answers with its name; asked for a number of seconds, it takes them."""

    def __init__(self, name="one"):
        self.name = name
        self.began = asyncio.Event()

    async def SayHello(self, request, context):
        self.began.set()
        if request.name.isdigit():
            await asyncio.sleep(int(request.name))
        return HelloReply(message=self.name)


async def greet(channel, name="Ada", timeout=5.0):
    """Who answers."""
    request = HelloRequest(name=name)
    reply = await GreeterStub(channel).SayHello(request, timeout=timeout, wait_for_ready=True)
    return reply.message
