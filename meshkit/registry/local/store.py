"""The registry of one user on one machine: a file, and no process to start."""

from __future__ import annotations

import contextlib
import functools
import os
import random
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Final, TypeVar, final

import anyio
import anyio.lowlevel

from meshkit.backoff import Backoff
from meshkit.errors import (
    ConfigError,
    MeshClosedError,
    MeshError,
    RegistryError,
    RegistryUnavailable,
)
from meshkit.registry.local.database import Database
from meshkit.registry.local.place import default_path
from meshkit.registry.store import Batch, Grant, KeyValue, Listing, keys_of

__all__ = ["LocalStore"]

T = TypeVar("T")

_POLL: Final = 0.05  # seconds between two looks of a watch; a look takes some 20 microseconds
_PATIENCE: Final = 2.0  # seconds; writers need well under a millisecond each
_RETRY: Final = Backoff(first=0.001, limit=0.02)
_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_LOCKED: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})


@final
class LocalStore:
    """A `Store` in a file that all processes of one user on this machine share.

    A lease is a lock on a file, held by the store that granted it: it ends when that store is
    closed or its process dies, however it dies, which every watch sees within a tenth of a second.
    No time ends it: a process that hangs keeps its leases. Locks do not reach over NFS.

    Belongs to the thread that first used it, and to its process: a forked child needs its own.

    Args:
        path: the file; None for the one that all programs of this user find.

    Raises:
        ConfigError: this system has no file locks. The first operation raises it if the path
            cannot be used.
    """

    def __init__(self, path: Path | None = None) -> None:
        try:
            import fcntl  # noqa: F401 -- only to know early, and say so
        except ImportError as error:
            raise ConfigError(
                "local:// needs POSIX file locks, which this system lacks; "
                "name another registry, such as etcd://localhost:2379"
            ) from error
        self._path = (path or default_path()).absolute()
        self._database: Database | None = None
        self._process = os.getpid()

    @property
    def name(self) -> str:
        """Where this is, for people."""
        return f"local://{self._path}"

    @property
    def peer(self) -> None:
        """None: it serves this machine only."""
        return

    async def grant(self, ttl: float) -> Grant:
        """A new lease; `ttl` (seconds) is returned as asked, but not what ends it."""
        return await self._run(lambda database: database.grant(ttl))

    async def renew(self, lease: int) -> float:
        """The seconds that were asked for, or 0.0 if the lease is gone."""
        return await self._run(lambda database: database.renew(lease))

    async def revoke(self, lease: int) -> None:
        """End a lease and delete its keys in one revision."""
        await self._run(lambda database: database.end(lease))

    async def put(self, entries: Mapping[str, bytes], *, lease: int, if_held: bool = False) -> int:
        """Write all entries, or those held, in one revision under `lease`. Raises `LeaseGone`."""
        return await self._run(lambda database: database.put(entries, lease, if_held))

    async def delete(self, keys: Iterable[str], *, lease: int | None = None) -> int:
        """Delete keys, or those under `lease`, in one revision; none is no error."""
        keys = tuple(keys)  # it may be tried again
        return await self._run(lambda database: database.delete(keys, lease))

    async def read(self, keys: Iterable[str]) -> tuple[KeyValue, ...]:
        """Those of `keys` that are there; none of an owner that is dead."""
        return await self._run(lambda database: database.read(keys))

    async def list(self, *prefixes: str, also: str | None = None) -> Listing:
        """All keys that start with one of `prefixes`, and `also`; none of an owner that is dead."""
        return await self._run(lambda database: database.list(prefixes, also))

    def watch(
        self, *prefixes: str, after: int, also: str | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[Batch]]:
        """Changes under `prefixes`, and of `also`, of all revisions > `after`."""
        return contextlib.aclosing(self._follow(keys_of(prefixes, also), after))

    async def aclose(self) -> None:
        """Close the files, which ends the leases that were granted here."""
        database, self._database = self._database, None
        if database is not None:
            database.close()

    async def _follow(self, keys: Callable[[str], bool], after: int) -> AsyncGenerator[Batch, None]:
        database = await self._run(lambda database: database)
        while True:
            changes = functools.partial(Database.since, keys=keys, after=after)
            after, batches = await self._run(changes, database)
            for batch in batches:
                yield batch
            await anyio.sleep(_POLL)

    async def _run(self, operation: Callable[[Database], T], watched: Database | None = None) -> T:
        """What `operation` returns; tried again, for a while, when another process writes."""
        await anyio.lowlevel.checkpoint()
        delays = _RETRY.delays(random.Random())
        with anyio.move_on_after(_PATIENCE):
            while True:
                try:
                    return self._attempt(operation, watched)
                except sqlite3.Error as error:
                    if _code(error) not in _LOCKED:
                        raise self._explained(error) from error
                await anyio.sleep(next(delays))
        raise RegistryUnavailable(f"{self._path} was locked by other processes for {_PATIENCE} s")

    def _attempt(self, operation: Callable[[Database], T], watched: Database | None) -> T:
        try:
            database = self._opened() if watched is None else self._unchanged(watched)
            database.bury(every=0.0 if watched is None else _POLL / 2)
            return operation(database)
        except OSError as error:
            if isinstance(error, MeshError):  # RegistryUnavailable is both
                raise
            raise RegistryUnavailable(f"{self._path}: {error}") from error

    def _opened(self) -> Database:
        if self._database is not None:
            if self._process != os.getpid():
                raise MeshClosedError(f"{self.name} was opened before fork(); open a new one")
            if self._database.in_place():
                return self._database
            self._database.close()
        self._database, self._process = None, os.getpid()
        self._database = Database(self._path)
        return self._database

    def _unchanged(self, watched: Database) -> Database:
        if self._database is watched and self._opened() is watched:
            return watched
        raise RegistryUnavailable(f"{self._path} was closed, or somebody deleted it")

    def _explained(self, error: sqlite3.Error) -> RegistryError:
        if _code(error) in _DAMAGED:
            return RegistryError(
                f"{self._path} is damaged ({error}); delete it: "
                "the programs that use it announce themselves again"
            )
        return RegistryUnavailable(f"{self._path}: {error}")


def _code(error: sqlite3.Error) -> int:
    """SQLite's primary result code; 0 if it is the sqlite3 module that complains."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
