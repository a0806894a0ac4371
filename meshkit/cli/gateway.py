"""`meshkit gateway`: an Envoy on the path of every call, for clients that know no mesh."""

from __future__ import annotations

import argparse

from meshkit.cli.command import Commands, Exit, add_command
from meshkit.cli.envoy import add_envoy_options, print_bootstrap, started, until_stopped
from meshkit.cli.xds import port
from meshkit.envoy import Drain
from meshkit.xds import Port, TlsFiles

__all__ = ["add_to"]

_LISTEN = "127.0.0.1:8080"


def add_to(commands: Commands) -> None:
    """Add `meshkit gateway`."""
    parser = add_command(
        commands,
        "gateway",
        _gateway,
        "run an Envoy through which clients reach the services",
        "A call goes to the service that its :authority names, or to that of the port.\n"
        "SIGTERM: clients are asked to connect elsewhere, calls finish, then it ends; a second "
        "one ends it at once.",
    )
    parser.add_argument(
        "--listen",
        action="append",
        metavar="[SERVICE=]IP:PORT",
        help=f"a port that it opens; again for more ({_LISTEN})",
    )
    tls = parser.add_argument_group("TLS on its ports")
    tls.add_argument("--tls-cert", metavar="FILE", default="", help="its certificate")
    tls.add_argument("--tls-key", metavar="FILE", default="", help="the key of that")
    tls.add_argument("--tls-ca", metavar="FILE", default="", help="who signs clients' certificates")
    drain, usual = parser.add_argument_group("leaving"), Drain()
    drain.add_argument(
        "--drain-delay",
        metavar="SECONDS",
        type=float,
        default=usual.delay,
        help=f"that it still takes connections after SIGTERM, if any come ({usual.delay:g})",
    )
    drain.add_argument(
        "--grace",
        metavar="SECONDS",
        type=float,
        default=usual.grace,
        help=f"that calls may go on after that ({usual.grace:g})",
    )
    add_envoy_options(parser)


async def _gateway(options: argparse.Namespace) -> int:
    ports = _ports(options)
    if options.print:
        print_bootstrap(options, ports)
        return Exit.OK
    drain = Drain(delay=options.drain_delay, grace=options.grace)
    async with started(options, ports) as envoy:
        return await until_stopped(
            envoy, drain, f"gateway on {', '.join(p.address for p in ports)}"
        )


def _ports(options: argparse.Namespace) -> list[Port]:
    files = TlsFiles(cert=options.tls_cert, key=options.tls_key, ca=options.tls_ca)
    tls = None if files == TlsFiles() else files
    given = map(port, options.listen or (_LISTEN,))
    return [Port(address=each.address, service=each.service, tls=tls) for each in given]
