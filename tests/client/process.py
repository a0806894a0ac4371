"""An echo server in a process of its own, which can be killed or frozen."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from meshkit.endpoint import Endpoint
from tests.client.fakes import EchoServer


class ServerProcess:
    def __init__(self, name: str, process: asyncio.subprocess.Process, port: int) -> None:
        self._process = process
        self.endpoint = Endpoint(service="echo", id=name, address=f"127.0.0.1:{port}")

    async def kill(self) -> None:
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGKILL)
            await self._process.wait()


@asynccontextmanager
async def server_process(name: str) -> AsyncIterator[ServerProcess]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.client.process", name, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    server = ServerProcess(name, process, int(await process.stdout.readline()))
    try:
        yield server
    finally:
        await server.kill()


async def main() -> None:
    async with EchoServer(sys.argv[1]) as server:
        print(server.port, flush=True)
        await server.server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main())
