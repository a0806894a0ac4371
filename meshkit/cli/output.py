"""What commands print: tables for people, JSON for programs."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from typing import Any

__all__ = ["add_output_option", "print_json", "print_table"]


def add_output_option(parser: argparse.ArgumentParser) -> None:
    """Add `--output`."""
    parser.add_argument(
        "-o", "--output", choices=("table", "json"), default="table", help="(table)"
    )


def print_json(document: Any) -> None:
    """For programs."""
    print(json.dumps(document, indent=2))


def print_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """For people: columns as wide as they need to be."""
    lines = [tuple(head), *(tuple(map(str, row)) for row in rows)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(head))]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        print("  ".join(cells).rstrip())
