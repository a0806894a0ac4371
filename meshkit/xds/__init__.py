"""A control plane: the registry for gRPC's own xDS clients and for Envoy, in any language.

Everything that speaks the protocol needs the extra `xds` and is imported when a control plane is
made; what only describes one is light.
"""

from meshkit.xds.bootstrap import ControlPlaneAddress, EnvoyNode, envoy_bootstrap, grpc_bootstrap
from meshkit.xds.envoy import EnvoyScope, Port, TlsFiles
from meshkit.xds.opening import make_control_plane
from meshkit.xds.options import DEFAULT_BIND, ControlPlaneOptions

__all__ = [
    "DEFAULT_BIND",
    "ControlPlaneAddress",
    "ControlPlaneOptions",
    "EnvoyNode",
    "EnvoyScope",
    "Port",
    "TlsFiles",
    "envoy_bootstrap",
    "grpc_bootstrap",
    "make_control_plane",
]
