"""Programs with an xDS client of gRPC's own, from the side of tests; see `caller` for the lines."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from meshkit.xds import ControlPlaneAddress, grpc_bootstrap

__all__ = ["PYTHON", "GrpcClient", "grpc_client"]

PYTHON = (sys.executable, str(Path(__file__).with_name("caller.py")))
"""The one of this Python, and its grpcio."""


class GrpcClient:
    """The process, from the test's side."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def _ask(self, *words: object) -> Any:
        self._process.stdin.write(" ".join(map(str, words)).encode() + b"\n")
        await self._process.stdin.drain()
        return json.loads(await self._process.stdout.readline())

    async def call(self, count: int = 1, **headers: str) -> dict[str, int]:
        """How many of `count` calls each server answered, or which status they had."""
        pairs = (f"{name.replace('_', '-')}={value}" for name, value in headers.items())
        return await self._ask("call", count, *pairs)

    async def begin(self, count: int = 1, name: str = "held") -> None:
        """Send `count` calls that say `name`; nobody waits for them."""
        await self._ask("begin", count, name)

    async def ended(self) -> dict[str, int]:
        """Who answered those that have ended by now, or which status they had."""
        return await self._ask("ended")

    async def accepts_all(self) -> bool:
        """Whether it took all it was sent."""
        return set((await self.state()).values()) == {"ACKED"}

    async def wait(self, timeout: float = 10.0) -> dict[str, Any]:
        """Who answered a call that waits, and after how many seconds."""
        return await self._ask("wait", timeout)

    async def state(self) -> dict[str, str]:
        """`ACKED`, `NACKED`, ... of each resource, named `Listener hello_service`."""
        return await self._ask("state")


@asynccontextmanager
async def grpc_client(
    address: str,
    *,
    bootstrap: Mapping[str, Any] | None = None,
    zone: str = "",
    command: Sequence[str] = PYTHON,
) -> AsyncIterator[GrpcClient]:
    """A client of the control plane at `address`, for the length of a block."""
    document = bootstrap or grpc_bootstrap(
        ControlPlaneAddress(addresses=[address]), node="child", zone=zone
    )
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "GRPC_XDS_BOOTSTRAP_CONFIG": json.dumps(document)},
    )
    try:
        yield GrpcClient(process)
    finally:
        process.stdin.close()
        if process.returncode is None:
            process.kill()
        await process.wait()
