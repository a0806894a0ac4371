"""What all clients here do once they have a channel: say hello, and count who answered."""

import asyncio
from collections import Counter

import grpc

from examples.hello.helloworld_pb2 import HelloRequest
from examples.hello.helloworld_pb2_grpc import GreeterStub

CALLS = 30
PAUSE = 0.05  # seconds; the first connection would take all, before the second one stands


async def greet(channel: grpc.aio.Channel) -> None:
    stub = GreeterStub(channel)
    answered: Counter[str] = Counter()
    for _ in range(CALLS):
        reply = await stub.SayHello(HelloRequest(name="Ada"), timeout=5.0)
        answered[reply.message.rpartition(" ")[2]] += 1
        await asyncio.sleep(PAUSE)
    print(f"{CALLS} calls, answered by:", flush=True)
    for who, count in sorted(answered.items()):
        print(f"  {who:<22} {count:3}", flush=True)
