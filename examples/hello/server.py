"""A greeter that joins the mesh: python -m examples.hello.server --port 50001

Ctrl-C or SIGTERM: it leaves the registry first, finishes the calls it has, and exits with 0.
"""

import argparse
import asyncio
from datetime import datetime

from examples.hello.helloworld_pb2 import HelloReply, HelloRequest
from examples.hello.helloworld_pb2_grpc import GreeterServicer
from meshkit import Mesh


class Greeter(GreeterServicer):
    def __init__(self) -> None:
        self.address = ""

    async def SayHello(self, request: HelloRequest, context) -> HelloReply:
        print(f"{datetime.now():%H:%M:%S.%f}: Receive is {request.name}", flush=True)
        return HelloReply(message=f"Hello {request.name} from {self.address}")


async def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--service", default="hello_service", help="service name")
    flags.add_argument("--port", type=int, default=50001, help="listening port; 0: any")
    flags.add_argument("--registry", help="registry URL, by default $MESHKIT_REGISTRY or local://")
    given = flags.parse_args()

    greeter = Greeter()
    async with (
        Mesh(given.registry) as mesh,
        mesh.serve(given.service, greeter, port=given.port) as server,
    ):
        greeter.address = server.address
        print(f"serving {given.service} on {server.address}", flush=True)
        await server.serve_forever()
        print("leaving", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
