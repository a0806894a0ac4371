"""The model of an Envoy on the path of every call; a plain gRPC client names the service."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ClassVar

import grpc
import grpc.aio

from meshkit import Mesh
from meshkit.envoy import EnvoyFlags, envoy
from meshkit.testing import free_ports
from meshkit.xds import ControlPlaneAddress, EnvoyNode, EnvoyScope, Port, envoy_bootstrap
from tests.routing.native import Channelled

__all__ = ["proxied"]


class Proxied:
    """The service's name as authority, to the Envoy's port."""

    lacks: ClassVar[Mapping[str, str]] = {
        "joined values": "Envoy 1.39 and later match each value of a header (CVE-2026-26308)"
    }

    def __init__(self, address: str) -> None:
        self._address = address

    @asynccontextmanager
    async def calling(self, service: str) -> AsyncIterator[Channelled]:
        options = [("grpc.default_authority", service)]
        async with grpc.aio.insecure_channel(self._address, options=options) as channel:
            yield Channelled(channel)


@asynccontextmanager
async def proxied(mesh: Mesh, binary: Path) -> AsyncIterator[Proxied]:
    """The model for the services of `mesh`, by the Envoy at `binary`."""
    [port] = free_ports(1)
    address = f"127.0.0.1:{port}"
    node = EnvoyNode(name="routing", scope=EnvoyScope(ports=(Port(address=address),)))
    async with mesh.xds("127.0.0.1:0") as plane:
        bootstrap = envoy_bootstrap(ControlPlaneAddress(addresses=[plane.address]), node)
        async with envoy(binary, bootstrap, EnvoyFlags(concurrency=1)) as running:
            await running.ready()
            yield Proxied(address)
