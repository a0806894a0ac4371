"""`meshkit xds`: the control plane for gRPC's xDS clients and for Envoy."""

from __future__ import annotations

import argparse
import dataclasses
from typing import TYPE_CHECKING

from meshkit.cli.command import Commands, Exit, add_command, add_group
from meshkit.cli.options import add_registry_options, mesh_of
from meshkit.cli.output import add_output_option, print_json, print_table
from meshkit.cli.signals import stop_signal
from meshkit.errors import ConfigError
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

if TYPE_CHECKING:
    from meshkit.xds.status import ClientStatus, ControlPlaneStatus, ResourceStatus

__all__ = ["add_control_plane_options", "add_to", "control_plane_of", "port"]

_CLIENT = ("NODE", "CLIENT", "PEER", "ZONE", "STATE", "RESOURCES", "ERROR")
_RESOURCE = ("NODE", "TYPE", "NAME", "STATE", "VERSION", "ERROR")


def add_to(commands: Commands) -> None:
    """Add `meshkit xds`."""
    group = add_group(commands, "xds", "a control plane for gRPC's xDS clients and Envoy")
    _add_serve(group)
    _add_bootstrap(group)
    _add_status(group)
    _add_check(group)


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
        async with mesh, mesh.xds(options.bind, tls=None if tls == TlsFiles() else tls) as plane:
            print(f"xDS of {mesh} on {plane.address}", flush=True)
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
    print_json(document)
    return Exit.OK


def _add_status(group: Commands) -> None:
    parser = add_command(
        group,
        "status",
        _status,
        "show the clients of a control plane, and what each took and refused",
        "SYNCED: it uses what it was sent. WAITING: it has not got, or not answered, all.\n"
        "REFUSED: it refused something, and goes on with what it had.",
    )
    add_control_plane_options(parser)
    add_output_option(parser)
    parser.add_argument("--resources", action="store_true", help="a line for each resource")


async def _status(options: argparse.Namespace) -> Exit:
    status = await _fetch(options)
    if options.output == "json":
        print_json(dataclasses.asdict(status))
    elif options.resources:
        lines = ((client, each) for client in status.clients for each in client.resources)
        print_table(_RESOURCE, (_resource_row(client, each) for client, each in lines))
    else:
        print_table(_CLIENT, map(_client_row, status.clients))
    return Exit.OK


def _client_row(client: ClientStatus) -> tuple[object, ...]:
    zone, errors = client.zone or "-", "; ".join(client.errors) or "-"
    count = len(client.resources)
    return client.node, client.client, client.peer, zone, client.state, count, errors


def _resource_row(client: ClientStatus, found: ResourceStatus) -> tuple[object, ...]:
    kind, version = found.type_url.rpartition(".")[2], found.version or "-"
    return client.node, kind, found.name, found.state, version, found.error or "-"


def _add_check(group: Commands) -> None:
    parser = add_command(
        group,
        "check",
        _check,
        "fail if a control plane is not well, or a client refused what it was sent",
    )
    add_control_plane_options(parser)


async def _check(options: argparse.Namespace) -> Exit:
    status = await _fetch(options)
    refused = [client for client in status.clients if client.errors]
    serving = (
        "ok   serving" if status.serving else "!!   not serving: has not heard of the registry"
    )
    print(f"control plane  {serving}")
    for client in refused:
        print(f"client         !!   {client.node} {client.peer}: {'; '.join(client.errors)}")
    if not refused:
        print(f"clients        ok   {len(status.clients)} connected, none refused anything")
    return Exit.OK if status.serving and not refused else Exit.FAILED


async def _fetch(options: argparse.Namespace) -> ControlPlaneStatus:
    try:
        from meshkit.xds.status import fetch_status
    except ImportError as error:
        raise ConfigError("xDS needs an extra: pip install 'meshkit[xds]'") from error
    return await fetch_status(control_plane_of(options))
