"""What clients are started with: how they find the control plane, and who they are.

Source: gRFC A27, A65 and A71 for gRPC; config.bootstrap.v3.Bootstrap for Envoy. Plain JSON.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, final

from meshkit.errors import ConfigError
from meshkit.registry.address import split_address
from meshkit.xds.address import is_ip
from meshkit.xds.envoy import METADATA_KEY, EnvoyScope, TlsFiles

__all__ = ["ControlPlaneAddress", "EnvoyNode", "envoy_bootstrap", "grpc_bootstrap"]

_CLUSTER: Final = "xds_control_plane"
_TYPE: Final = "type.googleapis.com/envoy.extensions"
_ADS: Final = {"ads": {}, "resource_api_version": "V3"}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ControlPlaneAddress:
    """Where clients find a control plane, and how they speak to it.

    Attributes:
        addresses: `host:port` of each replica, the preferred one first.
        tls: the client's files; None: plain text. Without a CA, the system's roots.
    """

    addresses: Sequence[str]
    tls: TlsFiles | None = None

    def __post_init__(self) -> None:
        if not self.addresses:
            raise ConfigError("a control plane has an address, host:port")
        for address in self.addresses:
            _split(address)


def grpc_bootstrap(
    control_plane: ControlPlaneAddress, *, node: str = "", zone: str = ""
) -> dict[str, Any]:
    """What `GRPC_XDS_BOOTSTRAP` (the path of a file) or `GRPC_XDS_BOOTSTRAP_CONFIG` (JSON) needs.

    Args:
        control_plane: where it is; gRPC uses a replica when those before it are away (gRFC A71).
        node: the client's name in the status; by default that of this machine.
        zone: where the client runs.
    """
    tls = control_plane.tls
    credentials = {"type": "insecure"} if tls is None else {"type": "tls", "config": _files(tls)}
    return {
        "xds_servers": [
            {
                "server_uri": address,
                "channel_creds": [credentials],
                "server_features": ["xds_v3"],
            }
            for address in control_plane.addresses
        ],
        "node": _node(node, zone),
    }


def _files(tls: TlsFiles) -> dict[str, str]:
    """The files as gRPC names them (gRFC A65)."""
    found = {
        "ca_certificate_file": tls.ca,
        "certificate_file": tls.cert,
        "private_key_file": tls.key,
    }
    return {name: path for name, path in found.items() if path}


def _node(node: str, zone: str) -> dict[str, Any]:
    # grpc-js does not take a node without a locality.
    locality = {"zone": zone} if zone else {}
    return {"id": node or socket.gethostname(), "cluster": METADATA_KEY, "locality": locality}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class EnvoyNode:
    """An Envoy, as its bootstrap describes it.

    Attributes:
        name: in the status; empty: that of this machine.
        zone: where it runs.
        scope: which ports it opens, for which services.
        admin: `host:port` of its admin page; None: it has none.
        delta: whether it is told only what changes, which is less where there are many services.
    """

    name: str = ""
    zone: str = ""
    scope: EnvoyScope = field(default_factory=EnvoyScope)
    admin: str | None = None
    delta: bool = True


def envoy_bootstrap(control_plane: ControlPlaneAddress, envoy: EnvoyNode) -> dict[str, Any]:
    """What `envoy --config-yaml` or `-c file.json` needs; all else comes from the control plane."""
    node = _node(envoy.name, envoy.zone)
    node["metadata"] = {METADATA_KEY: envoy.scope.to_json()}
    admin = {} if envoy.admin is None else {"admin": {"address": _address(envoy.admin)}}
    return {
        "node": node,
        **admin,
        "dynamic_resources": {
            "ads_config": {
                "api_type": "DELTA_GRPC" if envoy.delta else "GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": True,
                "grpc_services": [{"envoy_grpc": {"cluster_name": _CLUSTER}}],
            },
            "lds_config": _ADS,
            "cds_config": _ADS,
        },
        "static_resources": {"clusters": [_control_plane_cluster(control_plane)]},
    }


def _control_plane_cluster(control_plane: ControlPlaneAddress) -> dict[str, Any]:
    hosts = [_split(address)[0] for address in control_plane.addresses]
    keepalive = {"interval": "10s", "timeout": "5s"}  # a control plane that hangs is left
    cluster: dict[str, Any] = {
        "name": _CLUSTER,
        "type": "STATIC" if all(map(is_ip, hosts)) else "STRICT_DNS",
        "connect_timeout": "2s",
        "load_assignment": {
            "cluster_name": _CLUSTER,
            "endpoints": [
                {
                    "priority": place,
                    "lb_endpoints": [{"endpoint": {"address": _address(address)}}],
                }
                for place, address in enumerate(control_plane.addresses)
            ],
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{_TYPE}.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {
                    "http2_protocol_options": {"connection_keepalive": keepalive}
                },
            }
        },
    }
    if control_plane.tls is not None:
        cluster["transport_socket"] = _transport_socket(control_plane.tls, hosts[0])
    return cluster


def _transport_socket(tls: TlsFiles, host: str) -> dict[str, Any]:
    roots = tls.ca or "/etc/ssl/certs/ca-certificates.crt"
    kind = "ip_address" if is_ip(host) else "dns"
    names = {"san_type": kind.upper(), "matcher": {"exact": host}}
    common: dict[str, Any] = {
        "validation_context": {
            "trusted_ca": {"filename": roots},
            "match_typed_subject_alt_names": [names],
        }
    }
    if tls.cert:
        files = {
            "certificate_chain": {"filename": tls.cert},
            "private_key": {"filename": tls.key},
        }
        common["tls_certificates"] = [files]
    context: dict[str, Any] = {
        "@type": f"{_TYPE}.transport_sockets.tls.v3.UpstreamTlsContext",
        "common_tls_context": common,
    }
    if not is_ip(host):
        context["sni"] = host
    return {"name": "envoy.transport_sockets.tls", "typed_config": context}


def _address(address: str) -> dict[str, Any]:
    host, port = _split(address)
    return {"socket_address": {"address": host, "port_value": port}}


def _split(address: str) -> tuple[str, int]:
    try:
        return split_address(address)
    except ValueError as error:
        raise ConfigError(str(error)) from None
