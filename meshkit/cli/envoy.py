"""What `meshkit gateway` and `meshkit sidecar` share: an Envoy that follows the registry."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import anyio

from meshkit.cli.command import Exit
from meshkit.cli.options import add_registry_options, mesh_of
from meshkit.envoy import Drain, Envoy, EnvoyFlags, envoy, find_envoy
from meshkit.server.signals import Signals
from meshkit.xds import (
    DEFAULT_BIND,
    ControlPlaneAddress,
    EnvoyNode,
    EnvoyScope,
    Port,
    envoy_bootstrap,
)

__all__ = ["add_envoy_options", "ended_by_itself", "print_bootstrap", "started", "until_stopped"]

_LOG_LEVELS = ("debug", "info", "warning", "error", "critical", "off")


def add_envoy_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of an Envoy that is told everything by a control plane."""
    parser.add_argument(
        "--service", action="append", metavar="NAME", help="that it reaches; by default all"
    )
    parser.add_argument(
        "--xds",
        action="append",
        metavar="HOST:PORT",
        help="of a control plane that runs already; again for each replica. By default one runs "
        "in this process",
    )
    parser.add_argument(
        "--print", action="store_true", help="print the configuration of the Envoy, and end"
    )
    envoy = parser.add_argument_group("Envoy")
    envoy.add_argument("--node", metavar="NAME", default="", help="its name in the status")
    envoy.add_argument("--zone", metavar="NAME", default="", help="where it runs")
    envoy.add_argument("--admin", metavar="HOST:PORT", help="of its admin page; by default none")
    envoy.add_argument("--concurrency", metavar="N", type=int, help="threads; by default all cores")
    envoy.add_argument(
        "--envoy-log-level", choices=_LOG_LEVELS, default="warning", help="of its lines (warning)"
    )
    add_registry_options(parser)


def print_bootstrap(options: argparse.Namespace, ports: Sequence[Port]) -> None:
    """Print what an Envoy needs that somebody else starts; it needs a control plane, then."""
    addresses = options.xds or (DEFAULT_BIND,)
    print(json.dumps(_bootstrap(options, ports, addresses), indent=2))


@asynccontextmanager
async def started(options: argparse.Namespace, ports: Sequence[Port]) -> AsyncIterator[Envoy]:
    """The Envoy that the options say, and a control plane for it if they name none.

    Raises:
        ConfigError: an option cannot be used, or there is no Envoy here.
        RegistryError: the registry refuses us.
    """
    binary = find_envoy()
    flags = EnvoyFlags(concurrency=options.concurrency, log_level=options.envoy_log_level)
    async with (
        _control_plane(options) as addresses,
        envoy(binary, _bootstrap(options, ports, addresses), flags) as running,
    ):
        yield running


@asynccontextmanager
async def _control_plane(options: argparse.Namespace) -> AsyncIterator[Sequence[str]]:
    """The addresses of the control plane."""
    if options.xds:
        yield options.xds
        return
    async with mesh_of(options) as mesh, mesh.xds("127.0.0.1:0") as control_plane:
        yield (control_plane.address,)


def _bootstrap(
    options: argparse.Namespace, ports: Sequence[Port], addresses: Sequence[str]
) -> dict[str, object]:
    services = None if options.service is None else tuple(sorted(set(options.service)))
    node = EnvoyNode(
        name=options.node,
        zone=options.zone,
        scope=EnvoyScope(ports=tuple(ports), services=services),
        admin=options.admin,
    )
    return envoy_bootstrap(ControlPlaneAddress(addresses=tuple(addresses)), node)


async def until_stopped(running: Envoy, drain: Drain, told: str) -> Exit:
    """Run until a signal has drained it, or it ended by itself; the second signal kills it."""
    stopped = anyio.Event()

    def react() -> None:
        if stopped.is_set():
            running.program.kill()
        stopped.set()

    async def tell() -> None:
        await running.ready()
        print(told, flush=True)

    async def leave() -> None:
        await stopped.wait()
        print("leaving", flush=True)
        await running.drain(drain)

    signals = Signals(react)
    signals.take()
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(tell)
            group.start_soon(leave)
            status = await running.program.ended()
            group.cancel_scope.cancel()
    finally:
        signals.give_back()
    return Exit.OK if stopped.is_set() else ended_by_itself(status)


def ended_by_itself(status: int) -> Exit:
    """What has become of a command whose Envoy is gone."""
    print(f"meshkit: error: Envoy ended by itself, exit status {status}", file=sys.stderr)
    return Exit.FAILED
