"""What a running control plane says of itself and its clients, asked over its own port."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import grpc
from envoy.admin.v3.config_dump_shared_pb2 import ClientResourceStatus
from envoy.service.status.v3 import csds_pb2, csds_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from meshkit.errors import ConfigError, RegistryUnavailable
from meshkit.xds.bootstrap import ControlPlaneAddress
from meshkit.xds.envoy import TlsFiles

__all__ = ["ClientStatus", "ControlPlaneStatus", "ResourceStatus", "fetch_status"]

_SERVING: Final = health_pb2.HealthCheckResponse.SERVING
_STATES: Final = {"NACKED": "REFUSED", "ACKED": "SYNCED", "DOES_NOT_EXIST": "SYNCED"}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceStatus:
    """What a client made of one resource.

    Attributes:
        type_url: its type.
        name: its name.
        state: `ACKED`, `NACKED`, `REQUESTED` (not sent, or not answered), `DOES_NOT_EXIST`.
        version: that the client uses; empty: none.
        error: why the client refused the last one; empty: it did not.
    """

    type_url: str
    name: str
    state: str
    version: str
    error: str = ""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ClientStatus:
    """One connected client.

    Attributes:
        node: its name.
        client: its kind and version.
        peer: where it calls from.
        zone: where it runs; empty: it does not say.
        resources: that it asked for or was sent.
    """

    node: str
    client: str
    peer: str
    zone: str
    resources: tuple[ResourceStatus, ...]

    @property
    def state(self) -> str:
        """`SYNCED`, `REFUSED` if it refused anything, `WAITING` if it has not got all."""
        states = {_STATES.get(each.state, "WAITING") for each in self.resources}
        return next((state for state in ("REFUSED", "WAITING") if state in states), "SYNCED")

    @property
    def errors(self) -> tuple[str, ...]:
        """What it says of what it refused; each once."""
        return tuple(dict.fromkeys(each.error for each in self.resources if each.error))


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ControlPlaneStatus:
    """A control plane at one moment.

    Attributes:
        serving: whether it has heard of the registry, and can answer.
        clients: that are connected.
    """

    serving: bool
    clients: tuple[ClientStatus, ...]


async def fetch_status(address: ControlPlaneAddress, *, timeout: float = 5.0) -> ControlPlaneStatus:
    """Ask the first replica of `address`.

    Raises:
        ConfigError: a TLS file cannot be read.
        RegistryUnavailable: it cannot be reached in time.
    """
    target = address.addresses[0]
    async with _channel(target, address.tls) as channel:
        try:
            health = await health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=timeout
            )
            stub = csds_pb2_grpc.ClientStatusDiscoveryServiceStub(channel)
            answer = await stub.FetchClientStatus(csds_pb2.ClientStatusRequest(), timeout=timeout)
        except grpc.aio.AioRpcError as error:
            reason = f"{error.code().name} {error.details()}"
            raise RegistryUnavailable(f"the control plane at {target}: {reason}") from error
    return ControlPlaneStatus(
        serving=health.status == _SERVING, clients=tuple(map(_client, answer.config))
    )


def _client(config: Any) -> ClientStatus:
    node = config.node
    return ClientStatus(
        node=node.id,
        client=f"{node.user_agent_name} {node.user_agent_version}".strip(),
        peer=config.client_scope,
        zone=node.locality.zone,
        resources=tuple(map(_resource, config.generic_xds_configs)),
    )


def _resource(config: Any) -> ResourceStatus:
    return ResourceStatus(
        type_url=config.type_url,
        name=config.name,
        state=ClientResourceStatus.Name(config.client_status),
        version=config.version_info,
        error=config.error_state.details,
    )


@asynccontextmanager
async def _channel(target: str, tls: TlsFiles | None) -> AsyncIterator[grpc.aio.Channel]:
    if tls is None:
        channel = grpc.aio.insecure_channel(target)
    else:
        credentials = grpc.ssl_channel_credentials(_read(tls.ca), _read(tls.key), _read(tls.cert))
        channel = grpc.aio.secure_channel(target, credentials)
    async with channel:
        yield channel


def _read(path: str) -> bytes | None:
    try:
        return Path(path).read_bytes() if path else None
    except OSError as error:
        raise ConfigError(f"a TLS file for the control plane cannot be read: {error}") from None
