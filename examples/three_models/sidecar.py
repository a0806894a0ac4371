"""Model 3, a process beside the client: a proxy of its own, on the loopback.

    meshkit sidecar --listen hello_service=127.0.0.1:9001 -- \
        python -m examples.three_models.sidecar 127.0.0.1:9001

Plain gRPC: the client knows a port of its own machine.
"""

import asyncio
import sys

import grpc

from examples.three_models.greeting import greet


async def main(address: str = "127.0.0.1:9001") -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        await greet(channel)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
