"""The command line: reads it, runs the command, and turns errors into texts and exit codes."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version

from meshkit.cli import dns, gateway, sidecar, xds
from meshkit.cli.command import Exit
from meshkit.errors import ConfigError, RegistryError

__all__ = ["main", "parser"]

_LEVELS = ("debug", "info", "warning", "error")


def parser() -> argparse.ArgumentParser:
    """All commands with all options."""
    top = argparse.ArgumentParser(
        prog="meshkit",
        description="One registry of gRPC services, for programs, proxies and people.",
        epilog="Exit codes: 0 done, 1 a check failed, 2 wrong usage, 3 not reachable, 4 not found.",
    )
    top.add_argument("--version", action="version", version=f"meshkit {version('meshkit')}")
    top.add_argument(
        "--log-level", choices=_LEVELS, default="info", help="of the lines on stderr (info)"
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    dns.add_to(commands)
    gateway.add_to(commands)
    sidecar.add_to(commands)
    xds.add_to(commands)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit code.

    Args:
        arguments: those of the command line, by default.
    """
    options = parser().parse_args(arguments)
    logging.basicConfig(
        stream=sys.stderr,
        level=options.log_level.upper(),
        format="%(asctime)s %(levelname)-7s %(message)s",
    )
    try:
        return int(asyncio.run(options.run(options)))
    except ConfigError as error:
        return _failed(error, Exit.USAGE)
    except RegistryError as error:
        return _failed(error, Exit.UNREACHABLE)
    except KeyboardInterrupt:
        return 130  # as shells have it: 128 + SIGINT
    except BrokenPipeError:  # `meshkit ... | head`; nor may Python's own flush at the end meet it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(Exit.FAILED)


def _failed(error: Exception, code: Exit) -> int:
    print(f"meshkit: error: {error}", file=sys.stderr)
    return int(code)
