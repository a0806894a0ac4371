"""What a subcommand is: a parser with a coroutine function, and an exit code."""

from __future__ import annotations

import argparse
import enum
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeAlias, final

__all__ = ["Commands", "Exit", "Run", "add_command", "add_group"]


class Commands(Protocol):
    """Takes subcommands: what argparse's `add_subparsers` returns, which has no public name."""

    def add_parser(self, name: str, **keywords: Any) -> argparse.ArgumentParser:
        """Add one."""
        ...


@final
class Exit(enum.IntEnum):
    """How a command ends, for scripts."""

    OK = 0
    FAILED = 1  # a check failed
    USAGE = 2  # an argument or variable cannot be used
    UNREACHABLE = 3  # the registry, or the server asked, cannot be reached
    NOT_FOUND = 4


Run: TypeAlias = Callable[[argparse.Namespace], Awaitable[int]]
"""Does what a command says, and gives the exit code; data goes to stdout, logs go to stderr."""


def add_group(commands: Commands, name: str, summary: str) -> Commands:
    """Add `meshkit <name>`, which has subcommands of its own, and return what takes those."""
    parser = commands.add_parser(name, help=summary, description=summary)
    return parser.add_subparsers(required=True, metavar="COMMAND")


def add_command(
    commands: Commands, name: str, run: Run, summary: str, details: str = ""
) -> argparse.ArgumentParser:
    """Add a command, and return its parser for the options.

    Args:
        commands: of `meshkit`, or of a group.
        name: as it is typed.
        run: does it.
        summary: one line, for the list of commands.
        details: what the help says below that.
    """
    parser = commands.add_parser(
        name,
        help=summary,
        description=f"{summary}\n\n{details}".strip(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser
