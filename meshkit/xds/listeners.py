"""LDS: where calls begin. A name for gRPC's clients, a port for Envoy."""

from __future__ import annotations

from typing import Any, Final

from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.extensions.filters.http.router.v3.router_pb2 import Router
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as http,
)
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import DownstreamTlsContext
from google.protobuf.duration_pb2 import Duration

from meshkit.xds.address import host_and_port
from meshkit.xds.clusters import ADS
from meshkit.xds.envoy import Port, TlsFiles
from meshkit.xds.names import BY_AUTHORITY
from meshkit.xds.resources import pack

__all__ = ["listener_of_name", "listener_of_port"]

_MANAGER: Final = "envoy.filters.network.http_connection_manager"


def listener_of_name(service: str) -> Any:
    """The `Listener` behind `xds:///service`."""
    found = Listener(name=service)
    found.api_listener.api_listener.CopyFrom(pack(_manager(service, service)))
    return found


def listener_of_port(port: Port) -> Any:
    """The `Listener` of a port that an Envoy opens."""
    host, number = host_and_port(port.address)
    found = Listener(name=port.address)
    found.address.socket_address.address = host
    found.address.socket_address.port_value = number
    chain = found.filter_chains.add()
    manager = _manager(port.service or "by_authority", port.service or BY_AUTHORITY)
    manager.stream_idle_timeout.CopyFrom(Duration())  # a stream may be quiet as long as it likes
    chain.filters.add(name=_MANAGER, typed_config=pack(manager))
    if port.tls is not None:
        chain.transport_socket.name = "envoy.transport_sockets.tls"
        chain.transport_socket.typed_config.CopyFrom(pack(_tls(port.tls)))
    return found


def _manager(name: str, routes: str) -> Any:
    found = http.HttpConnectionManager(stat_prefix=name)
    found.rds.config_source.CopyFrom(ADS)
    found.rds.route_config_name = routes
    found.http_filters.add(name="envoy.filters.http.router", typed_config=pack(Router()))
    return found


def _tls(tls: TlsFiles) -> Any:
    found = DownstreamTlsContext()
    common = found.common_tls_context
    common.alpn_protocols.append("h2")
    files = common.tls_certificates.add()
    files.certificate_chain.filename = tls.cert
    files.private_key.filename = tls.key
    if tls.ca:
        common.validation_context.trusted_ca.filename = tls.ca
        found.require_client_certificate.value = True
    return found
