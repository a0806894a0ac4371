"""A client with gRPC's own xDS: one line in, one line of JSON out. Needs only grpcio.

call 20 x-canary=1    who answered how many of 20 calls, and the errors
begin 3 held          sends 3 calls that say "held", for which nobody waits
ended                 who answered those that have ended by now, and the errors
wait 5                who answered a call that waits until it can be sent, and after how long
state                 what it made of each resource, by type and name (needs grpcio-csds)
"""

import asyncio
import json
import sys
import time
from collections import Counter

import grpc.aio


def greeting(reply):
    """Of a HelloReply, which has one field, a text: its tag, its length, its bytes."""
    return reply[2:].decode()


def greeter(name):
    """The HelloRequest, likewise."""
    return b"\n" + bytes([len(name)]) + name.encode()


async def ask(say_hello, request=b"", **options):
    try:
        return await say_hello(request, **options)
    except grpc.aio.AioRpcError as error:
        return f"{error.code().name}: {error.details()}"


async def call(say_hello, count, *pairs):
    metadata = [tuple(pair.split("=", 1)) for pair in pairs]
    return Counter([await ask(say_hello, timeout=10, metadata=metadata) for _ in range(int(count))])


begun = []


async def begin(say_hello, count, name):
    for _ in range(int(count)):
        begun.append(asyncio.ensure_future(ask(say_hello, greeter(name), timeout=60)))


async def ended(_say_hello):
    return Counter(each.result() for each in begun if each.done())


async def wait(say_hello, timeout):
    began = time.perf_counter()
    try:
        who = await say_hello(b"", timeout=float(timeout), wait_for_ready=True)
    except grpc.aio.AioRpcError as error:
        who = error.code().name
    return {"who": who, "seconds": time.perf_counter() - began}


async def state(_say_hello):
    from envoy.admin.v3.config_dump_shared_pb2 import ClientResourceStatus
    from grpc_csds import ClientStatusDiscoveryServiceServicer

    answer = ClientStatusDiscoveryServiceServicer.FetchClientStatus(None, None)
    return {
        f"{each.type_url.rpartition('.')[2]} {each.name}": (
            ClientResourceStatus.Name(each.client_status)
        )
        for config in answer.config
        for each in config.generic_xds_configs
    }


async def main():
    commands = {each.__name__: each for each in (call, begin, ended, wait, state)}
    loop = asyncio.get_running_loop()
    async with grpc.aio.insecure_channel("xds:///hello_service") as channel:
        say_hello = channel.unary_unary(
            "/helloworld.Greeter/SayHello", response_deserializer=greeting
        )
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            command, *words = line.split()
            print(json.dumps(await commands[command](say_hello, *words)), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
