"""The registry as an SQLite file: keys, leases, and the history that watches read.

Every method is one short transaction, a few dozen microseconds, so it may run on an event loop.
None waits for another process: `sqlite3.OperationalError` says that the database is locked, and
the caller tries again.
"""

from __future__ import annotations

import itertools
import math
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, final

from meshkit.errors import RegistryError
from meshkit.registry.local.locks import LeaseLocks
from meshkit.registry.local.place import prepare
from meshkit.registry.store import Batch, Compacted, Grant, KeyValue, LeaseGone, Listing

__all__ = ["Database"]

_HISTORY: Final = 1000  # revisions kept; a watch is never more than one poll behind
_VERSION: Final = 0x6D6B01  # "mk", 1: also tells a registry from any other SQLite file
_SCHEMA: Final = (
    "CREATE TABLE entries (key TEXT PRIMARY KEY, value BLOB NOT NULL, lease INTEGER NOT NULL)",
    "CREATE TABLE leases (id INTEGER PRIMARY KEY, ttl REAL NOT NULL)",
    "CREATE TABLE history (revision INTEGER NOT NULL, key TEXT, value BLOB, lease INTEGER)",
    "CREATE INDEX history_by_revision ON history (revision)",
    "CREATE TABLE counters (revision INTEGER NOT NULL, compacted INTEGER NOT NULL)",
    f"PRAGMA user_version = {_VERSION}",
)


@final
class Database:
    """An open registry file, with the locks of the leases that were granted through it.

    Raises:
        ConfigError: the file cannot be used here.
        RegistryError: it is not a registry, or of another version of meshkit.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        directory = path.with_name(f"{path.name}-leases")
        prepare(path, directory)
        self._locks = LeaseLocks(directory)
        self._buried_at = -math.inf
        self._connection = sqlite3.connect(path, timeout=0, isolation_level=None)
        try:
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
            with self._writing():
                self._create()
        except BaseException:
            self._connection.close()
            raise
        self._identities = {used: _identity(used) for used in (path, directory)}

    def _create(self) -> None:
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        if version == _VERSION:
            return
        if self._connection.execute("SELECT 1 FROM sqlite_master").fetchone():
            raise RegistryError(
                f"{self._path} is not a registry of this version of meshkit; "
                "give another path, or stop the programs that use it and delete it"
            )
        for statement in _SCHEMA:
            self._connection.execute(statement)
        # Later than any revision of a file that was here before: a watch that remembers one of
        # those is told that it is history, instead of missing what happened.
        first = time.time_ns() // 1_000_000
        self._connection.execute("INSERT INTO counters VALUES (?, ?)", (first, first))

    def close(self) -> None:
        """Close the file and let go of our leases."""
        self._locks.release()
        self._connection.close()

    def in_place(self) -> bool:
        """Whether the files are those that were opened: somebody may have deleted them."""
        return all(_identity(path) == opened for path, opened in self._identities.items())

    # -- leases

    def grant(self, ttl: float) -> Grant:
        """A new lease, which lives as long as this process, or until `close`."""
        lease = 1 + secrets.randbits(62)
        try:
            with self._writing():
                self._locks.take(lease)
                self._connection.execute("INSERT INTO leases VALUES (?, ?)", (lease, ttl))
        except sqlite3.Error:
            self._locks.drop(lease)
            raise
        return Grant(lease, ttl)

    def renew(self, lease: int) -> float:
        """The seconds that were asked for; 0.0 if the lease is gone."""
        if ttl := self._ttl(lease):
            return ttl
        self._locks.drop(lease)
        return 0.0

    def end(self, lease: int) -> None:
        """End a lease and delete its keys in one revision."""
        with self._writing():
            self._end(lease)
            self._locks.drop(lease)

    def bury(self, *, every: float = 0.0) -> None:
        """End the leases whose owners died, each in one revision.

        Nothing to do if that was done less than `every` seconds ago: many watches share one look.
        """
        now = time.monotonic()
        if now - self._buried_at < every:
            return
        self._buried_at = now
        if not any(map(self._locks.is_free, self._leases())):
            return
        with self._writing():
            for lease in filter(self._locks.is_free, self._leases()):
                self._end(lease)
            self._locks.sweep()

    def _ttl(self, lease: int) -> float:
        row = self._connection.execute("SELECT ttl FROM leases WHERE id = ?", (lease,)).fetchone()
        return float(row[0]) if row else 0.0

    def _leases(self) -> tuple[int, ...]:
        return tuple(row[0] for row in self._connection.execute("SELECT id FROM leases"))

    def _end(self, lease: int) -> None:
        keys = self._connection.execute("SELECT key FROM entries WHERE lease = ?", (lease,))
        self._commit([KeyValue(key, None) for (key,) in keys])
        self._connection.execute("DELETE FROM leases WHERE id = ?", (lease,))

    # -- keys

    def put(self, entries: Mapping[str, bytes], lease: int, if_held: bool) -> int:
        """Write all entries, or those held, in one revision. Raises `LeaseGone`."""
        with self._writing():
            if lease and not self._ttl(lease):
                raise LeaseGone(f"{self._path}: lease {lease:x} is gone")
            return self._commit(
                [
                    KeyValue(key, value, lease)
                    for key, value in entries.items()
                    if not if_held or self._lease_of(key) == lease
                ]
            )

    def delete(self, keys: Iterable[str], lease: int | None) -> int:
        """Delete those of `keys` that are there, and under `lease` if one is given."""
        with self._writing():
            found = {key: self._lease_of(key) for key in keys}
            return self._commit(
                [
                    KeyValue(key, None)
                    for key, holder in found.items()
                    if holder is not None and lease in (None, holder)
                ]
            )

    def read(self, keys: Iterable[str]) -> tuple[KeyValue, ...]:
        """Those of `keys` that are there, at one revision."""
        with self._reading():
            return tuple(KeyValue(*row) for row in self._rows(keys))

    def list(self, prefixes: Iterable[str], also: str | None = None) -> Listing:
        """All keys under `prefixes`, and `also`, at one revision."""
        with self._reading():
            revision, _ = self._counters()
            under = itertools.chain.from_iterable(map(self._under, prefixes))
            beside = () if also is None else self._rows([also])
            return Listing(revision, tuple(KeyValue(*row) for row in (*beside, *under)))

    def _under(self, prefix: str) -> Iterator[Any]:
        rows = self._connection.execute(
            "SELECT key, value, lease FROM entries WHERE key >= ? ORDER BY key", (prefix,)
        )
        # SQLite orders text as Python does, so the keys of a prefix stand together.
        return itertools.takewhile(lambda row: row[0].startswith(prefix), rows)

    def since(self, keys: Callable[[str], bool], after: int) -> tuple[int, tuple[Batch, ...]]:
        """The revision now, and the changes of these keys since `after`. Raises `Compacted`."""
        with self._reading():
            revision, compacted = self._counters()
            if not compacted <= after <= revision:
                raise Compacted(f"revision {after} is not in {compacted}..{revision}")
            rows = self._connection.execute(
                "SELECT revision, key, value, lease FROM history WHERE revision > ?"
                " ORDER BY revision, rowid",
                (after,),
            )
            found = [row for row in rows if keys(row[1])]
        batches = itertools.groupby(found, key=lambda row: int(row[0]))
        return revision, tuple(
            Batch(made, tuple(KeyValue(*row[1:]) for row in group)) for made, group in batches
        )

    def compact(self, revision: int) -> None:
        """Forget the history up to and including `revision`."""
        with self._writing():
            self._compact(revision)

    def _rows(self, keys: Iterable[str]) -> Iterator[Sequence[Any]]:
        for key in keys:
            yield from self._connection.execute(
                "SELECT key, value, lease FROM entries WHERE key = ?", (key,)
            )

    def _lease_of(self, key: str) -> int | None:
        """The lease of a key, 0 without one; None if it is not there."""
        found = self._connection.execute("SELECT lease FROM entries WHERE key = ?", (key,))
        row = found.fetchone()
        return None if row is None else int(row[0])

    def _counters(self) -> tuple[int, int]:
        revision, compacted = self._connection.execute(
            "SELECT revision, compacted FROM counters"
        ).fetchone()
        return revision, compacted

    def _commit(self, changes: Sequence[KeyValue]) -> int:
        """Make all changes in one new revision; none make none."""
        revision, _ = self._counters()
        if not changes:
            return revision
        revision += 1
        for change in changes:
            row = (change.key, change.value, change.lease)
            if change.value is None:
                self._connection.execute("DELETE FROM entries WHERE key = ?", row[:1])
            else:
                self._connection.execute("INSERT OR REPLACE INTO entries VALUES (?, ?, ?)", row)
            self._connection.execute("INSERT INTO history VALUES (?, ?, ?, ?)", (revision, *row))
        self._connection.execute("UPDATE counters SET revision = ?", (revision,))
        self._compact(revision - _HISTORY)
        return revision

    def _compact(self, revision: int) -> None:
        self._connection.execute(
            "UPDATE counters SET compacted = max(compacted, min(?, revision))", (revision,)
        )
        self._connection.execute(
            "DELETE FROM history WHERE revision <= (SELECT compacted FROM counters)"
        )

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """All reads of the block see one state of the file."""
        with self._connection:
            self._connection.execute("BEGIN")
            yield

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Nobody else writes during the block; an error undoes it."""
        with self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            yield


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
