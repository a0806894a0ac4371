"""An aiohttp app that calls the mesh and serves gRPC in the same process.

python -m examples.aiohttp_app.app --port 8080

SIGTERM is aiohttp's: its clean-up drains the gRPC server and closes the mesh.
"""

import argparse
from collections.abc import AsyncIterator

import grpc
from aiohttp import web

from examples.hello.helloworld_pb2 import HelloReply, HelloRequest
from examples.hello.helloworld_pb2_grpc import GreeterServicer, GreeterStub
from meshkit import Mesh

MESH = web.AppKey("mesh", Mesh)


class Greeter(GreeterServicer):
    async def SayHello(self, request: HelloRequest, context) -> HelloReply:
        return HelloReply(message=f"Hello {request.name} from aiohttp's process")


async def hello(request: web.Request) -> web.Response:
    stub = GreeterStub(await request.app[MESH].channel("hello_service"))
    try:
        reply = await stub.SayHello(HelloRequest(name=request.match_info["name"]), timeout=1.0)
    except grpc.aio.AioRpcError as error:
        raise web.HTTPServiceUnavailable(text=error.details()) from error
    return web.json_response({"message": reply.message})


async def greeter(app: web.Application) -> AsyncIterator[None]:
    async with app[MESH].serve("hello_service", Greeter()):
        yield


def make_app() -> web.Application:
    app = web.Application()
    app[MESH] = mesh = Mesh()
    app.cleanup_ctx.append(mesh.cleanup_ctx)  # first in, last out
    app.cleanup_ctx.append(greeter)
    app.router.add_get("/hello/{name}", hello)
    return app


if __name__ == "__main__":
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--port", type=int, default=8080)
    web.run_app(make_app(), host="127.0.0.1", port=flags.parse_args().port)
