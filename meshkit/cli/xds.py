"""`meshkit xds`: the control plane for gRPC's xDS clients and for Envoy."""

from __future__ import annotations

import argparse
import json

from meshkit.cli.command import Commands, Exit, add_command, add_group
from meshkit.cli.options import add_registry_options, mesh_of
from meshkit.cli.signals import stop_signal
from meshkit.xds import (
    DEFAULT_BIND,
    ControlPlaneAddress,
    EnvoyNode,
    EnvoyScope,
    Port,
    TlsFiles,
    envoy_bootstrap,
    grpc_bootstrap,
)

__all__ = ["add_control_plane_options", "add_to", "control_plane_of", "port"]


def add_to(commands: Commands) -> None:
    """Add `meshkit xds`."""
    group = add_group(commands, "xds", "a control plane for gRPC's xDS clients and Envoy")
    _add_serve(group)
    _add_bootstrap(group)


def add_control_plane_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where clients find the control plane."""
    group = parser.add_argument_group("control plane")
    group.add_argument(
        "--server",
        action="append",
        metavar="HOST:PORT",
        help=f"of the control plane ({DEFAULT_BIND}); again for each replica",
    )
    group.add_argument("--ca", metavar="FILE", default="", help="who signed its certificate")
    group.add_argument("--cert", metavar="FILE", default="", help="the client's own certificate")
    group.add_argument("--key", metavar="FILE", default="", help="the key of that")
    group.add_argument("--tls", action="store_true", help="TLS with the system's roots")


def control_plane_of(options: argparse.Namespace) -> ControlPlaneAddress:
    """Where the options say that it is.

    Raises:
        ConfigError: an address or the files cannot be used.
    """
    tls = TlsFiles(cert=options.cert, key=options.key, ca=options.ca)
    has_tls = options.tls or tls != TlsFiles()
    return ControlPlaneAddress(
        addresses=tuple(options.server or (DEFAULT_BIND,)), tls=tls if has_tls else None
    )


def port(text: str) -> Port:
    """What `[SERVICE=]HOST:PORT` says.

    Raises:
        ConfigError: it cannot be used.
    """
    service, _, address = text.rpartition("=")
    return Port(address=address, service=service)


def _add_serve(group: Commands) -> None:
    parser = add_command(
        group,
        "serve",
        _serve,
        "run a control plane over the registry, until SIGTERM or SIGINT",
        "Clients are told of services when they ask, and of changes when they happen. Run several\n"
        "replicas of it: they give the same answers.",
    )
    add_registry_options(parser)
    group_of_port = parser.add_argument_group("port")
    group_of_port.add_argument(
        "--bind", metavar="HOST:PORT", default=DEFAULT_BIND, help=f"to listen on ({DEFAULT_BIND})"
    )
    group_of_port.add_argument("--cert", metavar="FILE", default="", help="its certificate: TLS")
    group_of_port.add_argument("--key", metavar="FILE", default="", help="the key of that")
    group_of_port.add_argument(
        "--client-ca", metavar="FILE", default="", help="clients need a certificate signed by it"
    )


async def _serve(options: argparse.Namespace) -> Exit:
    tls = TlsFiles(cert=options.cert, key=options.key, ca=options.client_ca)
    mesh = mesh_of(options)
    with stop_signal() as stopped:
        async with mesh, mesh.xds(options.bind, tls=None if tls == TlsFiles() else tls):
            await stopped.wait()
    return Exit.OK


def _add_bootstrap(group: Commands) -> None:
    parser = add_command(
        group,
        "bootstrap",
        _bootstrap,
        "print what clients of the control plane are started with",
        "For gRPC: GRPC_XDS_BOOTSTRAP is the path of a file with it.\n"
        "With --envoy: the configuration of an Envoy.",
    )
    add_control_plane_options(parser)
    parser.add_argument("--node", metavar="NAME", default="", help="of the client in the status")
    parser.add_argument("--zone", metavar="NAME", default="", help="where the client runs")
    envoy = parser.add_argument_group("Envoy")
    envoy.add_argument("--envoy", action="store_true", help="for Envoy instead of gRPC")
    envoy.add_argument(
        "--listen",
        action="append",
        default=[],
        metavar="[SERVICE=]HOST:PORT",
        help="a port that it opens; without SERVICE, calls name theirs in :authority",
    )
    envoy.add_argument(
        "--service", action="append", metavar="NAME", help="that it reaches; by default all"
    )
    envoy.add_argument("--admin", metavar="HOST:PORT", help="of its admin page")
    envoy.add_argument(
        "--sotw", action="store_true", help="tell it all at each change, not just what changed"
    )


async def _bootstrap(options: argparse.Namespace) -> Exit:
    control_plane = control_plane_of(options)
    if options.envoy:
        services = None if options.service is None else tuple(sorted(set(options.service)))
        scope = EnvoyScope(ports=tuple(map(port, options.listen)), services=services)
        node = EnvoyNode(
            name=options.node,
            zone=options.zone,
            scope=scope,
            admin=options.admin,
            delta=not options.sotw,
        )
        document = envoy_bootstrap(control_plane, node)
    else:
        document = grpc_bootstrap(control_plane, node=options.node, zone=options.zone)
    print(json.dumps(document, indent=2))
    return Exit.OK
