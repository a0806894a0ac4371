"""`meshkit dns`: the registry for programs that ask by DNS, such as HAProxy."""

from __future__ import annotations

import argparse

from meshkit.cli.command import Commands, Exit, add_command, add_group
from meshkit.cli.options import add_registry_options, mesh_of
from meshkit.cli.signals import stop_signal
from meshkit.errors import ConfigError
from meshkit.registry.address import split_address

__all__ = ["DEFAULT_LISTEN", "add_to"]

DEFAULT_LISTEN = "127.0.0.1:15353"


def add_to(commands: Commands) -> None:
    """Add `meshkit dns`."""
    group = add_group(commands, "dns", "the registry for programs that ask by DNS")
    parser = add_command(
        group,
        "serve",
        _serve,
        "answer DNS queries for the services, until stopped",
        "_SERVICE._tcp.ZONE   SRV: host, port and weight of each endpoint\n"
        "SERVICE.ZONE         A, AAAA: the hosts alone\n\n"
        "Who takes no new calls is left out: endpoints that drain, or have weight 0.",
    )
    add_registry_options(parser)
    parser.add_argument(
        "--listen", metavar="IP:PORT", default=DEFAULT_LISTEN, help=f"({DEFAULT_LISTEN})"
    )
    parser.add_argument("--zone", metavar="DOMAIN", default="mesh.local", help="(mesh.local)")
    parser.add_argument(
        "--ttl", metavar="SECONDS", type=int, default=1, help="that others may remember (1)"
    )


async def _serve(options: argparse.Namespace) -> Exit:
    try:
        host, port = split_address(options.listen)
    except ValueError as error:
        raise ConfigError(f"--listen: {error}") from None
    feed = mesh_of(options)
    with stop_signal() as stopped:
        async with (
            feed as mesh,
            mesh.dns(zone=options.zone, host=host, port=port, ttl=options.ttl) as responder,
        ):
            print(f"answering for {options.zone} on {options.listen}, UDP and TCP", flush=True)
            await stopped.wait()
    counts = responder.counts
    print(f"{counts.queries} queries, {counts.malformed} malformed packets", flush=True)
    return Exit.OK
