"""A live show: three servers, a client under way; one is killed, one drained, one added.

python -m examples.demo            (or: make demo)

Starts an etcd of its own if one can be found, else uses a local registry of its own. Everything it
starts it also stops.
"""

import argparse
import asyncio
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from time import perf_counter
from typing import Self

import anyio.to_thread
import grpc

from examples.hello.helloworld_pb2 import HelloRequest
from examples.hello.helloworld_pb2_grpc import GreeterStub
from meshkit import Mesh
from meshkit.testing.etcd import EtcdProcess, find_etcd

TTL = 3  # seconds: short, so that the show is
WORKERS = 20


class Server:
    """examples/hello/server.py as a process of its own."""

    def __init__(self, name: str, registry: str) -> None:
        self.name = name
        self.registry = registry
        self.address = ""
        self.process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        self.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "examples.hello.server", "--port", "0"),
            *("--registry", self.registry),
            stdout=asyncio.subprocess.PIPE,
        )
        assert self.process.stdout is not None
        first = (await self.process.stdout.readline()).decode()
        if not first:
            raise RuntimeError(f"server {self.name} did not start; its error is printed above")
        self.address = first.split()[-1]
        self._reader = asyncio.create_task(self._discard())
        return self

    async def _discard(self) -> None:
        while await self.process.stdout.readline():
            pass

    async def end(self, number: signal.Signals) -> int:
        if self.process.returncode is None:
            self.process.send_signal(number)
        status = await self.process.wait()
        await self._reader
        return status

    async def __aexit__(self, *_: object) -> None:
        await self.end(signal.SIGTERM)


class Show:
    """Calls without a pause, and counts who answered."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh
        self.names: dict[str, str] = {}
        self.answered: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.recent: Counter[str] = Counter()
        self.started = perf_counter()

    def say(self, text: str) -> None:
        print(f"{perf_counter() - self.started:6.1f} s  {text}", flush=True)

    async def call(self, stub: GreeterStub) -> None:
        while True:
            try:
                reply = await stub.SayHello(HelloRequest(name="Ada"), timeout=2.0)
                address = reply.message.rpartition(" ")[2]
                name = self.names.get(address, address)
                self.answered[name] += 1
                self.recent[name] += 1
            except grpc.aio.AioRpcError as error:
                self.failed[f"{error.code().name}: {error.details()}"] += 1
            await asyncio.sleep(0.05)

    async def watch(self, seconds: float) -> None:
        """Let it run, with a line for each second."""
        for _ in range(round(seconds)):
            self.recent.clear()
            await asyncio.sleep(1)
            spread = "  ".join(f"{n} {c:4}" for n, c in sorted(self.recent.items()))
            self.say(f"   calls in the last second: {spread or 'none'}")

    def summary(self) -> None:
        total = self.answered.total() + self.failed.total()
        print(f"\n{total} calls were made in {perf_counter() - self.started:.0f} s.")
        for name, count in sorted(self.answered.items()):
            print(f"  answered by {name}: {count:6}")
        print(f"  failed:        {self.failed.total():6}")
        for text, count in self.failed.items():
            print(f"    {count} x {text}")
        if self.failed:
            print("  (calls that were on the wire to a server at the moment it was killed)")


@asynccontextmanager
async def registry(url: str | None) -> AsyncIterator[str]:
    """The given registry; or an etcd of our own; or a local file of our own."""
    if url is not None:
        yield url
    elif (binary := find_etcd()) is not None:
        etcd = EtcdProcess(binary=binary)
        await anyio.to_thread.run_sync(etcd.start)
        try:
            yield etcd.url
        finally:
            await anyio.to_thread.run_sync(etcd.stop)
    else:
        with tempfile.TemporaryDirectory(prefix="meshkit-demo-") as folder:
            yield f"local://{Path(folder, 'registry.db')}"


async def show(url: str, seconds: float) -> None:
    async with AsyncExitStack() as stack:
        mesh = await stack.enter_async_context(Mesh(url, ttl=TTL))
        show = Show(mesh)

        async def add(name: str) -> Server:
            server = await stack.enter_async_context(Server(name, f"{url}?ttl={TTL}"))
            show.names[server.address] = name
            show.say(f"server {name} serves on {server.address}")
            return server

        show.say(f"registry: {url}")
        one, two, _three = [await add(name) for name in ("one", "two", "three")]
        channel = await mesh.channel("hello_service")
        stub = GreeterStub(channel)
        callers = [asyncio.create_task(show.call(stub)) for _ in range(WORKERS)]
        await show.watch(seconds)
        show.say(">> kill -9 server one: its connection dies, and its calls go elsewhere at once")
        await one.end(signal.SIGKILL)
        await show.watch(seconds)
        show.say(f"   {channel!r}")
        show.say(">> SIGTERM to server two: it leaves the registry, finishes its calls, exits")
        leaving = asyncio.create_task(two.end(signal.SIGTERM))
        await show.watch(seconds)
        show.say(f"   server two exited with {await leaving}")
        show.say(">> a new server, four, registers; its share of the calls grows for ten seconds")
        await add("four")
        await show.watch(seconds)
        for caller in callers:
            caller.cancel()
        await asyncio.wait(callers)
        show.summary()


async def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--registry", help="registry URL; by default one of its own")
    flags.add_argument("--seconds", type=float, default=4, help="between two happenings")
    given = flags.parse_args()
    async with registry(given.registry) as url:
        await show(url, given.seconds)


if __name__ == "__main__":
    asyncio.run(main())
