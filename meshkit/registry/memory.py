"""A store in memory, for tests and for several meshes of one process.

Leases, revisions and compaction are as true as etcd's. The clock is an argument, and the store can
be told to fail, to lose everything and to forget its history.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
import time
import weakref
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import ClassVar, Final, final

import anyio
import anyio.lowlevel

from meshkit.errors import RegistryError, RegistryUnavailable
from meshkit.registry.store import Batch, Compacted, Grant, KeyValue, LeaseGone, Listing

__all__ = ["MemoryStore"]

_HISTORY: Final = 10_000  # revisions kept for watches; a store that lives long must not grow


@dataclass(slots=True)
class _Lease:
    ttl: float
    expires_at: float


@dataclass(slots=True)
class _Contents:
    """What a store holds: no clock, no loop, no lock."""

    revision: int = 1  # as a new etcd has it
    compacted: int = 0
    entries: dict[str, KeyValue] = field(default_factory=dict)
    leases: dict[int, _Lease] = field(default_factory=dict)
    history: deque[Batch] = field(default_factory=deque)

    def commit(self, changes: Iterable[KeyValue]) -> int:
        """Make all changes in one new revision; none make none."""
        batch = Batch(self.revision + 1, tuple(changes))
        if not batch.changes:
            return self.revision
        for change in batch.changes:
            if change.value is None:
                del self.entries[change.key]
            else:
                self.entries[change.key] = change
        self.revision = batch.revision
        self.history.append(batch)
        self.compact(self.revision - _HISTORY)
        return self.revision

    def delete(self, keys: Iterable[str]) -> int:
        """Delete those of `keys` that are there."""
        return self.commit(
            KeyValue(key, None) for key in dict.fromkeys(keys) if key in self.entries
        )

    def end(self, lease: int) -> None:
        """End a lease and delete its keys."""
        if self.leases.pop(lease, None) is not None:
            self.delete(e.key for e in self.entries.values() if e.lease == lease)

    def expire(self, now: float) -> None:
        """End the leases whose time is over."""
        for lease in [i for i, lease in self.leases.items() if lease.expires_at <= now]:
            self.end(lease)

    def since(self, prefix: str, after: int) -> tuple[Batch, ...]:
        """The changes under `prefix` of the revisions that follow `after`."""
        if not self.compacted <= after <= self.revision:
            raise Compacted(f"revision {after} is not in {self.compacted}..{self.revision}")
        later = itertools.takewhile(lambda batch: batch.revision > after, reversed(self.history))
        batches = [
            Batch(batch.revision, tuple(c for c in batch.changes if c.key.startswith(prefix)))
            for batch in later
        ]
        return tuple(batch for batch in reversed(batches) if batch.changes)

    def compact(self, revision: int) -> None:
        """Forget the history up to and including `revision`."""
        self.compacted = max(self.compacted, min(revision, self.revision))
        while self.history and self.history[0].revision <= self.compacted:
            self.history.popleft()


@final
class _Bell:
    """Wakes one watch, from any thread."""

    __slots__ = ("__weakref__", "_loop", "_rung")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._rung = asyncio.Event()

    def ring(self) -> None:
        # A loop may have been closed in the middle of a watch; that is no trouble of the writer's.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._rung.set)

    async def wait(self, timeout: float | None) -> None:
        with anyio.move_on_after(timeout):
            await self._rung.wait()
        self._rung.clear()


@final
class MemoryStore:
    """A `Store` in memory; it may be used from several loops in several threads at once.

    Leases expire by `clock` (seconds): at the next operation, at the next expiry while somebody
    watches, and at `tick`, for a clock that a test moves by hand.
    """

    _shared: ClassVar[weakref.WeakValueDictionary[str, MemoryStore]] = weakref.WeakValueDictionary()
    _sharing: ClassVar[threading.Lock] = threading.Lock()

    def __init__(
        self, name: str = "memory://", *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._name = name
        self._clock = clock
        self._lock = threading.Lock()
        self._contents = _Contents()
        self._ids = itertools.count(1)  # goes on after `wipe`: a lost lease never comes back
        self._bells: weakref.WeakSet[_Bell] = weakref.WeakSet()
        self._fault: Callable[[], RegistryError] | None = None
        self._breaks = 0

    @classmethod
    def shared(cls, name: str) -> MemoryStore:
        """The one store of this process with that name, for as long as anybody holds it."""
        with cls._sharing:
            store = cls._shared.get(name)
            if store is None:
                store = cls._shared[name] = cls(name)
            return store

    @property
    def name(self) -> str:
        """Where this is, for people."""
        return self._name

    @property
    def peer(self) -> None:
        """None: it serves this process only."""
        return

    # -- what every store does

    async def grant(self, ttl: float) -> Grant:
        """A new lease of `ttl` seconds."""
        async with self._turn() as contents:
            lease = next(self._ids)
            contents.leases[lease] = _Lease(ttl, self._clock() + ttl)
            return Grant(lease, ttl)

    async def renew(self, lease: int) -> float:
        """Renew a lease; the seconds it has now, or 0.0 if it is gone."""
        async with self._turn() as contents:
            if (held := contents.leases.get(lease)) is None:
                return 0.0
            held.expires_at = self._clock() + held.ttl
            return held.ttl

    async def revoke(self, lease: int) -> None:
        """End a lease and delete its keys in one revision."""
        async with self._turn() as contents:
            contents.end(lease)

    async def put(self, entries: Mapping[str, bytes], *, lease: int) -> int:
        """Write all entries in one revision under `lease` (0: none). Raises `LeaseGone`."""
        async with self._turn() as contents:
            if lease and lease not in contents.leases:
                raise LeaseGone(f"{self._name}: lease {lease:x} is gone")
            return contents.commit(KeyValue(key, value, lease) for key, value in entries.items())

    async def delete(self, keys: Iterable[str]) -> int:
        """Delete keys in one revision; keys that are not there are no error."""
        async with self._turn() as contents:
            return contents.delete(keys)

    async def list(self, prefix: str) -> Listing:
        """All keys that start with `prefix`, in order."""
        async with self._turn() as contents:
            found = sorted(key for key in contents.entries if key.startswith(prefix))
            return Listing(contents.revision, tuple(contents.entries[key] for key in found))

    def watch(
        self, prefix: str, *, after: int
    ) -> AbstractAsyncContextManager[AsyncIterator[Batch]]:
        """Changes under `prefix` of all revisions > `after`, until the block ends."""
        return contextlib.aclosing(self._follow(prefix, after, self._breaks))

    async def aclose(self) -> None:
        """Nothing to close; the contents stay, as a server's would."""

    # -- what only a test asks for

    def tick(self) -> None:
        """Expire leases now: the clock was moved by hand."""
        with self._alone():
            pass

    def fail(
        self, error: Callable[[], RegistryError] = lambda: RegistryUnavailable("told to fail")
    ) -> None:
        """Raise `error()` from every operation and every watch, until `heal`."""
        with self._lock:
            self._fault = error
            self._break()

    def heal(self) -> None:
        """Work again. What was written is still there; what expired meanwhile is not."""
        with self._lock:
            self._fault = None

    def wipe(self) -> None:
        """Lose everything and count revisions from 1 again, as an etcd on a new disk."""
        with self._lock:
            self._contents = _Contents()
            self._break()

    def compact(self, revision: int) -> None:
        """Forget the history up to and including `revision`."""
        with self._lock:
            self._contents.compact(revision)

    # -- within

    @contextlib.asynccontextmanager
    async def _turn(self) -> AsyncIterator[_Contents]:
        # The store answers at once, but callers must not come to rely on never being interrupted.
        await anyio.lowlevel.checkpoint()
        with self._alone() as contents:
            if self._fault is not None:
                raise self._fault()
            yield contents

    @contextlib.contextmanager
    def _alone(self) -> Iterator[_Contents]:
        """Nobody else uses the contents; a change made meanwhile wakes the watches."""
        with self._lock:
            contents, before = self._contents, self._contents.revision
            contents.expire(self._clock())
            try:
                yield contents
            finally:
                if contents.revision != before:
                    self._ring()

    async def _follow(self, prefix: str, after: int, breaks: int) -> AsyncGenerator[Batch, None]:
        bell = _Bell()
        with self._lock:
            self._bells.add(bell)
        while True:
            async with self._turn() as contents:
                if self._breaks != breaks:
                    raise RegistryUnavailable(f"{self._name}: the watch broke")
                batches = contents.since(prefix, after)
                after = contents.revision
                expiry = min((e.expires_at for e in contents.leases.values()), default=None)
            for batch in batches:
                yield batch
            if not batches:
                await bell.wait(None if expiry is None else expiry - self._clock())

    def _break(self) -> None:
        self._breaks += 1
        self._ring()

    def _ring(self) -> None:
        for bell in self._bells:
            bell.ring()
