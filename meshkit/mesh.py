"""The mesh: opens a registry by URL, hands out servers and channels.

The only room that knows all of them; clients, servers and registries meet here.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Unpack, final, overload

import grpc

from meshkit.balancer import Policy, Resilience, ZoneAware
from meshkit.client import Channel, ChannelOptions, ConnectionOptions, RetryLimits
from meshkit.config import Settings
from meshkit.configs import PublishedConfigs
from meshkit.discovery import REGISTER_TIMEOUT, Registration
from meshkit.endpoint import DEFAULT_WEIGHT, Endpoint, EndpointSet, fresh_id
from meshkit.events import Hook, emit_to
from meshkit.feeding import Feeding
from meshkit.lifetime import Lifetime
from meshkit.observability.logs import log_event
from meshkit.opening import Opening
from meshkit.running import MeshStatus
from meshkit.server import Server, ServerKeywords, ServerOptions
from meshkit.service_config import ServiceConfig, ServiceConfigSource

__all__ = ["Mesh"]


@final
class Mesh(Feeding):
    """Servers and channels over one registry.

    Does no I/O until it is used, belongs to the loop it is first used on, and may be used again
    after it was closed. `async with Mesh() as mesh` closes it; `aclose` does from anywhere.

    Attributes:
        configs: the service configs in the registry, to publish and to read.
    """

    def __init__(
        self,
        registry: str | None = None,
        /,
        *,
        namespace: str | None = None,
        ttl: float | None = None,
        layout: str | None = None,
        advertise: str | None = None,
        zone: str | None = None,
        cache: bool | str | Path | None = None,
        hooks: Sequence[Hook] = (),
        default_service_config: ServiceConfigSource | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        """Describe a mesh; see `meshkit.config` for where what is not given comes from.

        Args:
            registry: URL, `etcd://10.0.0.1:2379`; by default `MESHKIT_REGISTRY`, else `local://`.
            namespace: keeps several meshes apart in one registry.
            ttl: seconds after which a dead server's registration ends.
            layout: how endpoints are written: `meshkit`, `etcd3_naming`, `kratos`, ...
            advertise: address (`host` or `host:port`) that servers announce.
            zone: where this process runs: its servers say so, its channels prefer servers there.
            cache: whether the last known endpoints are kept on disk, or in which directory, for
                clients that start while etcd is down; by default they are.
            hooks: functions that are called with each event.
            default_service_config: of channels, as far as neither they nor the registry say it.
            environ: the environment to read.

        Raises:
            ConfigError: a setting cannot be used.
        """
        self._settings = Settings.resolve(
            registry,
            namespace=namespace,
            ttl=ttl,
            layout=layout,
            advertise=advertise,
            zone=zone,
            cache=cache,
            environ=environ,
        )
        self._default_service_config = _parsed(default_service_config)
        super().__init__(Lifetime(self._settings, emit_to((log_event, *hooks))))
        self.configs = PublishedConfigs(self._lifetime)

    def __repr__(self) -> str:
        state = "closed" if self._lifetime.running is None else "open"
        return f"<Mesh {self._settings.registry} {self._settings.namespace!r} {state}>"

    # ---- clients

    def channel(
        self,
        service: str,
        /,
        *,
        policy: str | Policy | None = None,
        service_config: ServiceConfigSource | None = None,
        resilience: Resilience | None = None,
        subset: int | None = None,
        zone_aware: ZoneAware | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        interceptors: Sequence[grpc.aio.ClientInterceptor] = (),
        compression: grpc.Compression | None = None,
        options: Sequence[tuple[str, Any]] = (),
        propagate_deadline: bool = True,
        retry_limits: RetryLimits | None = None,
        idle_timeout: float | None = None,
        warm_up: float = 1.0,
    ) -> Opening[Channel]:
        """A channel to all endpoints of `service`, for stock generated stubs.

        `await mesh.channel("x")` keeps it until the mesh closes; `async with mesh.channel("x")`
        until the last such block ends. All uses with equal options share one channel.

        Opening waits until the first endpoints are connected, `warm_up` seconds at most, and never
        fails because the registry or the servers are down: calls do, or wait.

        Args:
            service: the name the servers registered.
            policy: the name of a balancing policy, such as `"round_robin"`, or a `Policy`; by
                default that of the service config.
            service_config: how calls are made, in gRPC's words: a `ServiceConfig`, JSON, or the
                `Path` of a file. Stronger, field by field, than what the registry has.
            resilience: outlier detection, circuit breaking, slow start; by default those of the
                service config.
            subset: to how many endpoints it connects, each client to others; by default to all.
            zone_aware: how endpoints of the mesh's own zone are preferred.
            credentials: for TLS to the servers; the certificate must name the service.
            interceptors: of the calls; each call's endpoint is picked before they see it.
            compression: default compression of the calls.
            options: gRPC channel arguments, stronger than meshkit's.
            propagate_deadline: whether calls made while another is served end with that one.
            retry_limits: what retries and hedges may cost, whatever is configured.
            idle_timeout: seconds without a call after which the connections are closed until the
                next one, and none are made before the first; `math.inf`: only that; None: never.
            warm_up: seconds; each use has its own, also of a channel that is shared.
        """
        wanted = ChannelOptions(
            policy=policy,
            service_config=_parsed(service_config),
            default_service_config=self._default_service_config,
            subset=subset,
            zone=self._settings.zone,
            zone_aware=zone_aware,
            connection=ConnectionOptions(
                credentials=credentials,
                interceptors=tuple(interceptors),
                compression=compression,
                options=tuple(options),
            ),
            propagate_deadline=propagate_deadline,
            resilience=resilience,
            retry_limits=retry_limits or RetryLimits(),
            idle_timeout=idle_timeout,
        )
        return self._lifetime.channel(service, wanted, warm_up)

    async def endpoints(self, service: str, /) -> EndpointSet:
        """The endpoints of `service`, asked of the registry now.

        Raises:
            RegistryError: it could not be asked.
        """
        return await (await self._lifetime.open()).registry.endpoints(service)

    @asynccontextmanager
    async def watch(self, service: str, /) -> AsyncIterator[AsyncIterator[EndpointSet]]:
        """The endpoints of `service` for the length of a block, a new set after each change.

        `async with mesh.watch("x") as sets: async for endpoints in sets: ...`; a reader that is
        slow gets the newest set only. `new.since(old)` tells what changed.
        """
        running = await self._lifetime.open()
        async with running.watch(service) as sets:
            yield sets

    def status(self) -> MeshStatus | None:
        """What this mesh is doing; None while it is closed. Good in any thread."""
        running = self._lifetime.running
        return None if running is None else running.status()

    # ---- servers

    @overload
    def serve(
        self, service: str, servicer: object, /, **keywords: Unpack[ServerKeywords]
    ) -> AbstractAsyncContextManager[Server]: ...

    @overload
    def serve(
        self, services: Mapping[str, object], /, **keywords: Unpack[ServerKeywords]
    ) -> AbstractAsyncContextManager[Server]: ...

    def serve(
        self,
        services: str | Mapping[str, object],
        servicer: object = None,
        /,
        **keywords: Unpack[ServerKeywords],
    ) -> AbstractAsyncContextManager[Server]:
        """A server for the length of a block: bound, healthy, registered; drained at its end.

        `mesh.serve("hello_service", Greeter(), port=50001)`, or several on one port:
        `mesh.serve({"hello_service": Greeter(), "echo_service": Echo()})`.

        Args:
            services: the name to register, or servicers by name.
            servicer: an instance of a generated `...Servicer` class's subclass.
            keywords: the fields of `ServerOptions`.

        Raises:
            ConfigError: (on entering) a servicer, address, port or option cannot be used.
            RegistryAuthError: (on entering) the registry refuses us.
            RegistryUnavailable: (on entering) the registry cannot be reached, and is required.
        """
        by_name = {services: servicer} if isinstance(services, str) else dict(services)
        keywords.setdefault("zone", self._settings.zone)
        return self._lifetime.serve(by_name, ServerOptions(**keywords))

    @asynccontextmanager
    async def register(
        self,
        service: str,
        address: str,
        /,
        *,
        weight: int = DEFAULT_WEIGHT,
        zone: str | None = None,
        version: str = "",
        keepalive: float = 0.0,
        metadata: Mapping[str, str] | None = None,
        require_registration: bool = True,
        register_timeout: float = REGISTER_TIMEOUT,
    ) -> AsyncIterator[Registration]:
        """Announce a server that you run yourself, for the length of a block.

        Enter the block when it serves; after the block, keep it serving for about a second (until
        clients have noticed) and then stop it.

        Args:
            service: the name to register.
            address: `host:port` that clients dial.
            weight: 0 takes no calls; other weights are announced, for pickers that look at them.
            zone: where it runs; by default where the mesh does.
            version: of the program.
            keepalive: seconds between the pings that your server allows, 1 or more; with 0 nobody
                pings it, and one that hangs is not noticed.
            metadata: free labels.
            require_registration: whether entering fails while the registry cannot be reached; if
                not, it is announced when the registry comes.
            register_timeout: seconds that entering waits for the registry.

        Raises:
            ConfigError: an argument cannot be used, or nobody could dial the address.
            RegistryAuthError: the registry refuses us.
            RegistryUnavailable: the registry cannot be reached, and is required.
        """
        endpoint = Endpoint(
            service=service,
            id=fresh_id(),
            address=address,
            weight=weight,
            zone=self._settings.zone if zone is None else zone,
            version=version,
            keepalive=keepalive,
            metadata=metadata or {},
        )
        running = await self._lifetime.open()
        async with running.register(
            endpoint, timeout=register_timeout, required=require_registration
        ) as registration:
            yield registration


def _parsed(source: ServiceConfigSource | None) -> ServiceConfig | None:
    return None if source is None else ServiceConfig.parse(source)
