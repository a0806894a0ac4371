"""Servers for benchmarks: processes that cost as little as possible beside the client.

The Go server (goserver/) answers at a fraction of the cost of any Python server; it is built
where a Go toolchain is present. Elsewhere grpc.aio servers stand in, and the figures say so.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc

from benchmarks.processes import running

UNARY = "/bench.Echo/Unary"
STREAM = "/bench.Echo/Stream"
MANY = "/bench.Echo/Many"  # unary-stream
COUNT = "/bench.Echo/Count"
MESSAGES = 100  # that Many answers with

_GO = Path(__file__).parent / "goserver"


@dataclass(frozen=True)
class Fleet:
    """Running servers."""

    kind: str
    ports: tuple[int, ...]

    @property
    def addresses(self) -> list[str]:
        """`host:port` of each."""
        return [f"127.0.0.1:{port}" for port in self.ports]

    def calls(self) -> list[int]:
        """How many calls each has had since it was started."""
        return [_ask_count(address) for address in self.addresses]


def _ask_count(address: str) -> int:
    with grpc.insecure_channel(address) as channel:
        return int(channel.unary_unary(COUNT)(b"", timeout=10.0))


@contextmanager
def fleet(*processes: Sequence[str], cores: set[int] | None = None) -> Iterator[Fleet]:
    """Servers for the length of a block.

    Args:
        processes: for each process how the servers on its ports behave; see goserver/main.go.
        cores: where they may run.
    """
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="meshkit-bench-"))
        go = _build_go(Path(folder, "server"))
        command = go or [sys.executable, "-m", "benchmarks.pyserver"]
        ports: list[int] = []
        for behaviours in processes:
            process = stack.enter_context(running([*command, *behaviours], cores=cores))
            ports += [int(process.stdout.readline()) for _ in behaviours]
        yield Fleet("Go (grpc-go)" if go else "Python (grpc.aio)", tuple(ports))


def _build_go(binary: Path) -> list[str] | None:
    go = shutil.which("go")
    if go is None:
        return None
    command = [go, "build", "-o", str(binary), "."]
    built = subprocess.run(command, cwd=_GO, capture_output=True, text=True, check=False)
    if built.returncode:
        print(f"the Go server cannot be built, Python's stands in: {built.stderr.strip()[-200:]}")
        return None
    return [str(binary)]
