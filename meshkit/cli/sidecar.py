"""`meshkit sidecar`: an Envoy beside one process, through which that one reaches the services."""

from __future__ import annotations

import argparse
import ipaddress

import anyio

from meshkit.cli.command import Commands, Exit, add_command
from meshkit.cli.envoy import (
    add_envoy_options,
    ended_by_itself,
    print_bootstrap,
    started,
    until_stopped,
)
from meshkit.cli.xds import port
from meshkit.envoy import Drain, Envoy, child
from meshkit.errors import ConfigError
from meshkit.server.signals import Signals
from meshkit.xds import Port
from meshkit.xds.address import host_and_port

__all__ = ["add_to"]

_LISTEN = "127.0.0.1:9000"
_DRAIN = Drain(delay=0.0)  # who uses it is beside it, and leaves first


def add_to(commands: Commands) -> None:
    """Add `meshkit sidecar`."""
    parser = add_command(
        commands,
        "sidecar",
        _sidecar,
        "run an Envoy beside a program, through which that reaches the services",
        "A call goes to the service that its :authority names, or to that of the port.\n"
        "With a COMMAND, that is started when the services can be reached; signals are passed on "
        "to it,\nand when it ends, all ends with its exit status.",
    )
    parser.add_argument(
        "--listen",
        action="append",
        metavar="[SERVICE=]IP:PORT",
        help=f"a port that it opens, on this machine only; again for more ({_LISTEN})",
    )
    parser.add_argument("command", nargs="*", metavar="COMMAND", help="after --: the program")
    add_envoy_options(parser)


async def _sidecar(options: argparse.Namespace) -> int:
    ports = [_local(port(text)) for text in options.listen or (_LISTEN,)]
    if options.print:
        print_bootstrap(options, ports)
        return Exit.OK
    async with started(options, ports) as envoy:
        if options.command:
            return await _beside(envoy, options.command)
        return await until_stopped(
            envoy, _DRAIN, f"sidecar on {', '.join(p.address for p in ports)}"
        )


def _local(given: Port) -> Port:
    host, _ = host_and_port(given.address)
    if not ipaddress.ip_address(host).is_loopback:
        raise ConfigError(
            f"a sidecar listens on this machine only, not on {host}: for others run a gateway"
        )
    return given


async def _beside(envoy: Envoy, command: list[str]) -> int:
    """Run `command` beside `envoy`; its exit status, as shells have it."""
    failed: Exit | None = None

    async def watch() -> None:
        nonlocal failed
        failed = ended_by_itself(await envoy.program.ended())
        group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(watch)
        await envoy.ready()
        async with child(*command) as program:
            signals = Signals(program.terminate)
            signals.take()
            try:
                status = await program.ended()
            finally:
                signals.give_back()
        group.cancel_scope.cancel()
    return status if failed is None else failed
