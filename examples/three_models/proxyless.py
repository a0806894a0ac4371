"""Model 3 without the proxy: a control plane tells gRPC's own balancer where the endpoints are.

    meshkit xds serve
    meshkit xds bootstrap > bootstrap.json
    GRPC_XDS_BOOTSTRAP=bootstrap.json python -m examples.three_models.proxyless

Plain gRPC: the client knows a name, and the environment says who knows more.
"""

import asyncio

import grpc

from examples.three_models.greeting import greet


async def main() -> None:
    async with grpc.aio.insecure_channel("xds:///hello_service") as channel:
        await greet(channel)


if __name__ == "__main__":
    asyncio.run(main())
