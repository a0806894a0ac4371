"""One harness per kind of store, so that one contract runs against all of them."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Protocol

import anyio
import anyio.abc
from aetcd import rpc

from meshkit.registry.etcd import EtcdOptions, EtcdStore
from meshkit.registry.local import LocalStore
from meshkit.registry.local.database import Database
from meshkit.registry.memory import MemoryStore
from meshkit.registry.store import Store
from meshkit.testing.etcd import EtcdProcess


class Harness(Protocol):
    """The data of one store, and what a test may do to it from outside."""

    def client(self) -> Store:
        """Another client to the same data; the test closes it."""
        ...

    async def doomed_lease(self) -> int:
        """A lease of an owner that can be killed."""
        ...

    async def kill_owner(self, lease: int) -> None:
        """Let the owner of a doomed lease die; returns without waiting for what follows."""
        ...

    async def compact(self, revision: int) -> None:
        """Drop the history up to `revision`."""
        ...


class Clock:
    """A clock that a test moves by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class MemoryHarness:
    def __init__(self) -> None:
        self.clock = Clock()
        self.store = MemoryStore("memory://contract", clock=self.clock)

    def client(self) -> Store:
        return self.store

    async def doomed_lease(self) -> int:
        return (await self.store.grant(5.0)).lease

    async def kill_owner(self, lease: int) -> None:
        self.clock.now += 5.0  # other leases of the contract are longer
        self.store.tick()

    async def compact(self, revision: int) -> None:
        self.store.compact(revision)


OWNER = """
import asyncio, pathlib, sys
from meshkit.registry.local import LocalStore

async def main():
    store = LocalStore(pathlib.Path(sys.argv[1]))
    lease = (await store.grant(15.0)).lease
    for key in sys.argv[2:]:
        await store.put({key: b"mine"}, lease=lease)
    print(lease, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


class LocalHarness:
    """The owners of doomed leases are real processes, which get a real SIGKILL."""

    def __init__(self, path: Path, owners: contextlib.AsyncExitStack) -> None:
        self.path = path
        self._stack = owners
        self._owners: dict[int, anyio.abc.Process] = {}

    def client(self) -> Store:
        return LocalStore(self.path)

    async def doomed_lease(self, *keys: str) -> int:
        process = await self._stack.enter_async_context(python(OWNER, self.path, *keys))
        lease = int(await process.stdout.receive())
        self._owners[lease] = process
        return lease

    async def kill_owner(self, lease: int) -> None:
        self._owners[lease].kill()

    async def ended(self, lease: int) -> None:
        """Return when a killed owner has ended."""
        await self._owners[lease].wait()

    async def compact(self, revision: int) -> None:
        with contextlib.closing(Database(self.path)) as database:
            database.compact(revision)


class EtcdHarness:
    """A running etcd, which others use too: emptied before, so that no old lease ends a key."""

    def __init__(self, etcd: EtcdProcess) -> None:
        self._options = EtcdOptions(endpoints=(etcd.endpoint,))

    @classmethod
    async def emptied(cls, etcd: EtcdProcess) -> EtcdHarness:
        harness = cls(etcd)
        everything = rpc.DeleteRangeRequest(key=b"\0", range_end=b"\0")
        await harness._call(lambda member: member.kv.DeleteRange, everything)
        return harness

    def client(self) -> Store:
        return EtcdStore(self._options)

    async def doomed_lease(self) -> int:
        async with contextlib.aclosing(EtcdStore(self._options)) as owner:
            return (await owner.grant(2.0)).lease

    async def kill_owner(self, lease: int) -> None:
        """It is dead already, and nobody renews."""

    async def compact(self, revision: int) -> None:
        await self._call(lambda member: member.kv.Compact, rpc.CompactionRequest(revision=revision))

    async def _call(self, method: Any, request: Any) -> None:
        async with contextlib.aclosing(EtcdStore(self._options)) as client:
            await client._session.call(method, request)


@contextlib.asynccontextmanager
async def python(program: str, *arguments: object) -> AsyncIterator[anyio.abc.Process]:
    """A Python process for the length of the block."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    async with await anyio.open_process(command, stderr=None) as process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
