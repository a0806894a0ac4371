"""Model 1, a central proxy: each call goes to it, and it passes the call on.

    meshkit gateway --listen 127.0.0.1:8080
    python -m examples.three_models.central_proxy 127.0.0.1:8080

Plain gRPC: the client knows the proxy's address and the service's name, and nothing of a mesh.
HAProxy does as well as an Envoy: `meshkit dns serve`, `haproxy -f examples/proxies/haproxy.cfg`.
"""

import asyncio
import sys

import grpc

from examples.three_models.greeting import greet


async def main(address: str = "127.0.0.1:8080") -> None:
    # The gateway reads from it which service the call is for.
    options = [("grpc.default_authority", "hello_service")]
    async with grpc.aio.insecure_channel(address, options) as channel:
        await greet(channel)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
