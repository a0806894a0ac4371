"""A FastAPI app that calls the mesh and serves gRPC in the same process.

uvicorn examples.fastapi_app.app:app

`GET /hello/Ada` greets through the mesh; `GET /readyz` tells how the mesh is. SIGTERM is uvicorn's:
its shutdown ends the lifespan, and with it the gRPC server leaves the registry and drains.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
from fastapi import FastAPI, HTTPException

from examples.hello.helloworld_pb2 import HelloReply, HelloRequest
from examples.hello.helloworld_pb2_grpc import GreeterServicer, GreeterStub
from meshkit import Mesh

mesh = Mesh()  # MESHKIT_REGISTRY says which registry; nothing is opened at import


class Greeter(GreeterServicer):
    async def SayHello(self, request: HelloRequest, context) -> HelloReply:
        return HelloReply(message=f"Hello {request.name} from FastAPI's process")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    # An app that only calls needs no function of its own: FastAPI(lifespan=mesh.lifespan)
    async with mesh, mesh.serve("hello_service", Greeter()):
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/hello/{name}")
async def hello(name: str) -> dict[str, str]:
    stub = GreeterStub(await mesh.channel("hello_service"))
    try:
        reply = await stub.SayHello(HelloRequest(name=name), timeout=1.0)
    except grpc.aio.AioRpcError as error:
        raise HTTPException(503, error.details()) from error
    return {"message": reply.message}


@app.get("/readyz")
async def readyz() -> dict[str, object]:
    status = mesh.status()
    return {"ready": status is not None, "registry": repr(status and status.registry)}
