"""Says hello through the mesh and prints who answered: python -m examples.hello.client

Once a second until Ctrl-C, as in any first test; or --count 3000 --interval 0 to see the spread.
"""

import argparse
import asyncio
import contextlib
from collections import Counter
from datetime import datetime

import grpc

from examples.hello.helloworld_pb2 import HelloRequest
from examples.hello.helloworld_pb2_grpc import GreeterStub
from meshkit import Mesh


async def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--service", default="hello_service", help="service name")
    flags.add_argument("--registry", help="registry URL, by default $MESHKIT_REGISTRY or local://")
    flags.add_argument("--policy", default="adaptive", help="or round_robin")
    flags.add_argument("--count", type=int, default=0, help="calls to make; 0: for ever")
    flags.add_argument("--interval", type=float, default=1.0, help="seconds between calls")
    flags.add_argument("--quiet", action="store_true", help="print the summary only")
    given = flags.parse_args()

    answered: Counter[str] = Counter()
    async with Mesh(given.registry) as mesh:
        stub = GreeterStub(await mesh.channel(given.service, policy=given.policy))
        calls = 0
        try:
            while not given.count or calls < given.count:
                calls += 1
                now = datetime.now()
                try:
                    request = HelloRequest(name=f"world {now.second}")
                    reply = await stub.SayHello(request, timeout=5.0)
                    answered[reply.message.rpartition(" ")[2]] += 1
                    line = f"Reply is {reply.message}"
                except grpc.aio.AioRpcError as error:
                    answered["nobody"] += 1
                    line = f"{error.code().name}: {error.details()}"
                if not given.quiet:
                    print(f"{now:%H:%M:%S.%f}: {line}", flush=True)
                await asyncio.sleep(given.interval)
        finally:
            print(f"{calls} calls, answered by:", flush=True)
            for who, count in sorted(answered.items()):
                print(f"  {who:<22} {count:6}  {count / max(1, calls):6.1%}", flush=True)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):  # the summary is printed
        asyncio.run(main())
