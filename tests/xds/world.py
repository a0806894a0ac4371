"""A mesh with a control plane, servers, and clients in processes of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import anyio

from meshkit import Mesh
from tests.mesh.greeters import AT_ONCE, Greeter
from tests.xds.grpc_client import GrpcClient, grpc_client

__all__ = ["SERVICE", "World", "eventually", "world"]

SERVICE = "hello_service"


class World:
    """What a test has."""

    def __init__(self, mesh: Mesh, address: str, stack: AsyncExitStack) -> None:
        self.mesh = mesh
        self.address = address
        self._stack = stack

    def serving(self, name, **options):
        """A server of the service that answers with `name`, for a block."""
        return self.mesh.serve(SERVICE, Greeter(name), quiet=AT_ONCE, **options)

    async def serve(self, name, **options):
        """The same until the test ends."""
        return await self._stack.enter_async_context(self.serving(name, **options))

    async def client(self, **options) -> GrpcClient:
        """A client of gRPC's own xDS."""
        return await self._stack.enter_async_context(grpc_client(self.address, **options))


@asynccontextmanager
async def world(name: str) -> AsyncIterator[World]:
    """A mesh over a registry in memory, with a control plane."""
    async with (
        Mesh(f"memory://{name}") as mesh,
        mesh.xds("127.0.0.1:0") as plane,
        AsyncExitStack() as stack,
    ):
        yield World(mesh, plane.address, stack)


async def eventually(ask, expected, within=15.0):
    """Return when `ask()` gives something that `expected` takes."""
    found = None
    try:
        with anyio.fail_after(within):
            while not expected(found := await ask()):
                await anyio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"the last was {found}") from None
    return found
