"""Typical code of users, never run: mypy --strict says that the public surface is typed.

`assert_type` holds the types that users get; a `type: ignore` that is not needed is an error, so
each one is a promise that mistakes are found.
"""

# mypy: untyped-calls-exclude=examples.hello.helloworld_pb2_grpc

from collections.abc import AsyncIterator
from pathlib import Path
from typing import assert_type

import grpc
from aiohttp import web
from fastapi import FastAPI

from examples.hello.helloworld_pb2 import HelloReply, HelloRequest
from examples.hello.helloworld_pb2_grpc import GreeterServicer, GreeterStub
from meshkit import (
    Channel,
    ConnectionOptions,
    Delta,
    Destination,
    Endpoint,
    EndpointSet,
    Event,
    Fallback,
    HeaderMatch,
    Hook,
    Mesh,
    MeshStatus,
    PowerOfTwo,
    Quiet,
    Registration,
    RingHash,
    Route,
    RouteMatch,
    Server,
    ServerOptions,
    ServiceConfig,
    Sticky,
    ZoneAware,
    draining,
)


class Greeter(GreeterServicer):
    async def SayHello(
        self, request: HelloRequest, context: "grpc.aio.ServicerContext[HelloRequest, HelloReply]"
    ) -> HelloReply:
        return HelloReply(message=f"Hello {request.name}")


def hook(event: Event) -> None:
    event.name.upper()


def hooks() -> list[Hook]:
    return [hook, print]


def meshes() -> None:
    Mesh()
    Mesh("etcd://10.0.0.1:2379", namespace="prod", ttl=10, layout="meshkit", hooks=hooks())
    Mesh(advertise="10.0.0.5", environ={"MESHKIT_REGISTRY": "local://"})
    Mesh(registry="local://")  # type: ignore[call-arg]
    Mesh(ttl="10")  # type: ignore[arg-type]


async def serve(mesh: Mesh) -> None:
    async with mesh.serve("hello_service", Greeter(), port=50001, quiet=Quiet()) as server:
        assert_type(server, Server)
        await server.serve_forever()
    async with mesh.serve({"a": Greeter(), "b": Greeter()}, zone="z") as server:
        assert_type(server.endpoints, tuple[Endpoint, ...])
        assert_type(server.port, int)
    mesh.serve("hello_service")  # type: ignore[call-overload]
    mesh.serve("hello_service", Greeter(), prot=1)  # type: ignore[call-overload]
    mesh.serve({"a": Greeter()}, Greeter())  # type: ignore[call-overload]
    mesh.serve("hello_service", Greeter(), require_registration=False, register_timeout=1)
    ServerOptions(port="1")  # type: ignore[arg-type]
    draining()


async def call(mesh: Mesh) -> None:
    channel = await mesh.channel("hello_service")
    assert_type(channel, Channel)
    plain: grpc.aio.Channel = channel
    GreeterStub(plain)
    GreeterStub(channel)
    async with mesh.channel("hello_service", policy="round_robin", warm_up=0.5) as borrowed:
        assert_type(borrowed, Channel)
        assert_type(borrowed.endpoints(), EndpointSet | None)
    await mesh.channel("s", policy=PowerOfTwo())
    await mesh.channel("s", policy=RingHash(key="user", hash_balance_factor=125), subset=20)
    await mesh.channel("s", policy=Sticky(key=lambda info: info.path), zone_aware=ZoneAware())
    await mesh.channel("s", service_config={"loadBalancingConfig": [{"p2c": {}}]})
    await mesh.configs.publish("s", ServiceConfig())
    await mesh.configs.publish("s", Path("config.json"))
    assert_type(await mesh.configs.read("s"), ServiceConfig | None)
    await mesh.configs.withdraw("s")
    assert_type(channel.status().service_config.for_method("/a.B/C").timeout, float | None)
    await mesh.channel("s", credentials=grpc.ssl_channel_credentials(), options=[("a", 1)])
    await mesh.channel(service="s")  # type: ignore[call-arg]
    ConnectionOptions()


async def look(mesh: Mesh) -> None:
    known: EndpointSet | None = None
    async with mesh.watch("hello_service") as sets:
        assert_type(sets, AsyncIterator[EndpointSet])
        async for endpoints in sets:
            assert_type(endpoints.since(known), Delta)
            known = endpoints
            for endpoint in endpoints:
                assert_type(endpoint.weight, int)
    assert_type(await mesh.endpoints("hello_service"), EndpointSet)
    status = mesh.status()
    assert_type(status, MeshStatus | None)
    if status is not None:
        assert_type(status.registry.connected, bool)


async def register(mesh: Mesh) -> None:
    async with mesh.register("s", "10.0.0.5:1", weight=50, metadata={"a": "b"}) as registration:
        assert_type(registration, Registration)
        assert_type(await registration.withdraw(), bool)


async def frameworks(mesh: Mesh) -> None:
    app = FastAPI(lifespan=mesh.lifespan)
    async with mesh, mesh.lifespan(app) as state:
        assert_type(state, dict[str, Mesh])
    web.Application().cleanup_ctx.append(mesh.cleanup_ctx)
    await mesh.aclose()


def routes() -> ServiceConfig:
    testers = RouteMatch(
        prefix="/helloworld.Greeter/", headers=(HeaderMatch(name="x-tester", present=True),)
    )
    canary = Destination(version="v2", metadata={"track": "beta"}, weight=10)
    Route(match=testers, destinations=(canary,), fallback=Fallback.ANY_ENDPOINT)
    Route(destinations=[canary])  # type: ignore[arg-type]
    split = Route(destinations=(canary, Destination(weight=90)), key=lambda call: call.path)
    assert_type(split.destinations[0].weight, int)
    return ServiceConfig(routes=(split,))
