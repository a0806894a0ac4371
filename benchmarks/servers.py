"""Servers for benchmarks: processes that cost as little as possible beside the client.

The Go server (goserver/) answers at a fraction of the cost of any Python server; it is built
where a Go toolchain is present. Elsewhere grpc.aio servers stand in, and the figures say so.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

_GO = Path(__file__).parent / "goserver"

_PYTHON = """
import asyncio, grpc

async def echo(request, context):
    return request

async def stream(requests, context):
    async for request in requests:
        yield request

class Echo(grpc.GenericRpcHandler):
    unary = grpc.unary_unary_rpc_method_handler(echo)
    bidi = grpc.stream_stream_rpc_method_handler(stream)

    def service(self, details):
        if not details.method.startswith("/bench."):
            return None
        return self.unary if details.method.endswith("Unary") else self.bidi

async def main():
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((Echo(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()

asyncio.run(main())
"""


def _build_go(folder: str) -> list[str] | None:
    go = shutil.which("go")
    if go is None:
        return None
    binary = Path(folder, "server")
    built = subprocess.run(
        [go, "build", "-o", str(binary), "."], cwd=_GO, capture_output=True, text=True, check=False
    )
    if built.returncode:
        print(f"the Go server cannot be built, Python's stands in: {built.stderr.strip()[-200:]}")
        return None
    return [str(binary)]


@contextmanager
def servers(count: int, cores: set[int]) -> Iterator[tuple[str, list[int]]]:
    """`count` running servers on `cores`: what they are, and their loopback ports."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="meshkit-bench-"))
        go = _build_go(folder)
        kind = "Go (grpc-go)" if go else "Python (grpc.aio)"
        ports = []
        for _ in range(count):
            process = subprocess.Popen(
                go or [sys.executable, "-c", _PYTHON],
                stdout=subprocess.PIPE,
                text=True,
                env=os.environ | {"GOMAXPROCS": str(len(cores))},
            )
            stack.callback(_end, process)
            if hasattr(os, "sched_setaffinity"):
                os.sched_setaffinity(process.pid, cores)
            ports.append(int(process.stdout.readline()))
        yield kind, ports


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    process.stdout.close()
