"""The model of gRPC's own xDS client, in a process of its own: no meshkit in the client."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import ClassVar

from meshkit import Mesh
from meshkit.xds import ControlPlaneAddress, grpc_bootstrap
from tests.routing.caller import Caller, Callers, callers

__all__ = ["proxyless"]


class Proxyless:
    """`xds:///service`."""

    lacks: ClassVar[Mapping[str, str]] = {
        "requestHashHeader": "gRPC's own xDS client draws by lot between weighted clusters (A28)"
    }

    def __init__(self, process: Callers) -> None:
        self._process = process

    @asynccontextmanager
    async def calling(self, service: str) -> AsyncIterator[Caller]:
        yield self._process.to(f"xds:///{service}")


@asynccontextmanager
async def proxyless(mesh: Mesh) -> AsyncIterator[Proxyless]:
    """The model for the services of `mesh`."""
    async with mesh.xds("127.0.0.1:0") as plane:
        address = ControlPlaneAddress(addresses=[plane.address])
        bootstrap = json.dumps(grpc_bootstrap(address, node="routing"))
        async with callers({"GRPC_XDS_BOOTSTRAP_CONFIG": bootstrap}) as process:
            yield Proxyless(process)
