"""Real proxies, started by a test on free ports and ended with it."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import anyio
import grpc
import pytest

from examples.hello.helloworld_pb2 import HelloRequest
from examples.hello.helloworld_pb2_grpc import GreeterStub

CONFIGURATIONS = Path(__file__).parents[2] / "examples" / "proxies"
SBIN = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"


def binary(name: str) -> str:
    """The path of a program; skips the test, visibly, where it is not installed."""
    found = shutil.which(name, path=SBIN)
    if found is None:
        pytest.skip(f"{name} is not installed: apt-get install {name}")
    return found


@contextlib.contextmanager
def running(*command: str, **environ: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process for the length of the block, or of this one's life."""
    dying = [setpriv, "--pdeathsig", "KILL"] if (setpriv := shutil.which("setpriv")) else []
    process = subprocess.Popen([*dying, *command], env=os.environ | environ)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def greeted(channel: grpc.aio.Channel, name: str = "Ada", *, timeout: float = 5.0) -> str:
    """Which server answers a call."""
    request = HelloRequest(name=name)
    reply = await GreeterStub(channel).SayHello(request, timeout=timeout)
    return reply.message


async def seconds_until(channel: grpc.aio.Channel, name: str, *, within: float = 20.0) -> float:
    """How long it takes until server `name` answers a call."""
    began = time.monotonic()
    with anyio.fail_after(within):
        while True:
            with contextlib.suppress(grpc.aio.AioRpcError):
                if await greeted(channel) == name:
                    return time.monotonic() - began
            await anyio.sleep(0.002)


async def until_all_answer(servers: Iterable[str], address: str) -> None:
    """Return when the proxy has heard of all `servers` of hello_service, by the last words of
    their answers."""
    options = [("grpc.default_authority", "hello_service"), ("grpc.max_reconnect_backoff_ms", 100)]
    waited_for = set(servers)
    async with grpc.aio.insecure_channel(address, options) as channel:
        with anyio.fail_after(20):
            while waited_for:
                try:
                    waited_for.discard((await greeted(channel)).split()[-1])
                except grpc.aio.AioRpcError:
                    await anyio.sleep(0.05)
