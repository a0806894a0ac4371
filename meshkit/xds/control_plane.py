"""A control plane between its start and its end: a gRPC server of its own over a registry."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Final, Self, final

import anyio
from grpc import aio

from meshkit.discovery import Directory
from meshkit.errors import ConfigError
from meshkit.events import ControlPlaneStarted, ControlPlaneStopped, Emit
from meshkit.server.health import Health
from meshkit.tasks import Job, Supervisor
from meshkit.xds.ads import DiscoveryService
from meshkit.xds.catalogue import Catalogue
from meshkit.xds.csds import ClientStatusService
from meshkit.xds.hosts import Hosts
from meshkit.xds.options import ControlPlaneOptions

__all__ = ["ControlPlane"]

_CHANNEL_ARGUMENTS: Final = (
    ("grpc.so_reuseport", 0),  # or two servers share a port without a word
    ("grpc.http2.min_ping_interval_without_data_ms", 1000),  # what Envoys send us
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.keepalive_time_ms", 10_000),  # a client that vanished is not in the status for ever
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.bdp_probe", 0),  # a ping for each answer to an answer; they are small
)


@final
class ControlPlane:
    """Serves xDS for the length of its block: ADS, the status of its clients, and its health.

    Entering binds and serves; leaving ends the streams, and clients go on with what they know.
    Runs once.

    Args:
        registry: where the services are; its name is for people.
        name: of the registry, for people.
        options: how to set it up.
        supervisor: runs the tasks.
        emit: takes the events.
    """

    def __init__(
        self,
        registry: Directory,
        name: str,
        options: ControlPlaneOptions,
        supervisor: Supervisor,
        emit: Emit,
    ) -> None:
        self._registry = registry
        self._name = name
        self._options = options
        self._supervisor = supervisor
        self._emit = emit
        self._health = Health()
        self._catalogue: Catalogue | None = None
        self._server: aio.Server | None = None
        self._watching: Job | None = None
        self._port = 0
        self._stopped = asyncio.Event()

    def __repr__(self) -> str:
        return f"<ControlPlane of {self._name} at {self.address or '?'}>"

    @property
    def port(self) -> int:
        """The port it listens on; 0 before it is bound."""
        return self._port

    @property
    def address(self) -> str:
        """The `host:port` it listens on; empty before it is bound."""
        host = self._options.bind.rpartition(":")[0]
        return f"{host}:{self._port}" if self._port else ""

    async def __aenter__(self) -> Self:
        """Bind and serve; it answers when the registry has.

        Raises:
            ConfigError: the port or the TLS files cannot be had.
        """
        server = aio.server(options=_CHANNEL_ARGUMENTS)
        self._port = _bind(server, self._options)
        hosts = Hosts(self._emit)
        clock = asyncio.get_running_loop().time
        catalogue = Catalogue(self._registry, hosts, self._supervisor, clock)
        discovery = DiscoveryService(catalogue, self._emit)
        discovery.add_to(server)
        ClientStatusService(discovery).add_to(server)
        self._health.add_to(server)
        self._catalogue, self._server = catalogue, server
        await server.start()
        self._watching = self._supervisor.start("xds health", self._watch, catalogue)
        self._emit(ControlPlaneStarted(self.address, self._name))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop; twice is fine."""
        server, self._server = self._server, None
        if server is None:
            return
        self._health.drain()
        self._health.close()
        with anyio.CancelScope(shield=True):
            await server.stop(self._options.grace)
            if self._watching is not None:
                self._watching.cancel()
            if self._catalogue is not None:
                await self._catalogue.aclose()
        self._emit(ControlPlaneStopped(self.address))
        self._stopped.set()

    async def wait_stopped(self) -> None:
        """Return when it has stopped."""
        await self._stopped.wait()

    async def _watch(self, catalogue: Catalogue) -> None:
        """Say that we are well as soon as there is anything to tell."""
        await catalogue.synced()
        self._health.serve(())


def _bind(server: aio.Server, options: ControlPlaneOptions) -> int:
    credentials = options.credentials()
    try:
        if credentials is None:
            return server.add_insecure_port(options.bind)
        return server.add_secure_port(options.bind, credentials)
    except RuntimeError as error:
        raise ConfigError(
            f"the control plane cannot listen on {options.bind}: another program has the port, or "
            "this machine has no such address"
        ) from error
