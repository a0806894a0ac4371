"""A store in memory, for tests and for several meshes of one process.

Leases, revisions and compaction are as true as etcd's. The clock is an argument, and the store
follows a script of faults: it can be cut off, fall silent, be slow, lose or restore its data.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from types import MappingProxyType
from typing import ClassVar, final

import anyio
import anyio.lowlevel

from meshkit.errors import RegistryAuthError, RegistryError, RegistryUnavailable
from meshkit.registry.memory.contents import Contents, Lease
from meshkit.registry.memory.faults import Bell, Fault
from meshkit.registry.store import Batch, Grant, KeyValue, LeaseGone, Listing, keys_of

__all__ = ["MemoryStore"]


@final
class MemoryStore:
    """A `Store` in memory; it may be used from several loops in several threads at once.

    Leases expire by `clock` (seconds): at the next operation, at the next expiry while somebody
    watches, and at `tick`, for a clock that a test moves by hand.

    Its faults are there one at a time: a new one takes the place of the last, `heal` ends it.
    None of them is in the way of what a test does by hand.
    """

    _shared: ClassVar[weakref.WeakValueDictionary[str, MemoryStore]] = weakref.WeakValueDictionary()
    _sharing: ClassVar[threading.Lock] = threading.Lock()

    def __init__(
        self, name: str = "memory://", *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._name = name
        self._clock = clock
        self._lock = threading.Lock()
        self._contents = Contents()
        self._ids = itertools.count(1)  # goes on after `wipe`: a lost lease never comes back
        # Not a WeakSet: who was there first is woken first, so that a test can be repeated.
        self._bells: weakref.WeakKeyDictionary[Bell, None] = weakref.WeakKeyDictionary()
        self._fault = Fault()
        self._breaks = 0

    @classmethod
    def shared(cls, name: str, *, clock: Callable[[], float] = time.monotonic) -> MemoryStore:
        """The one store of this process with that name, for as long as anybody holds it.

        Args:
            name: with its scheme: `memory://name`.
            clock: of the store, if it is made now.
        """
        with cls._sharing:
            store = cls._shared.get(name)
            if store is None:
                store = cls._shared[name] = cls(name, clock=clock)
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
            contents.leases[lease] = Lease(ttl, self._clock() + ttl)
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

    async def put(self, entries: Mapping[str, bytes], *, lease: int, if_held: bool = False) -> int:
        """Write all entries, or those held, in one revision under `lease`. Raises `LeaseGone`."""
        async with self._turn() as contents:
            if lease and lease not in contents.leases:
                raise LeaseGone(f"{self._name}: lease {lease:x} is gone")
            return contents.commit(
                KeyValue(key, value, lease)
                for key, value in entries.items()
                if not if_held or contents.is_held(key, lease)
            )

    async def delete(self, keys: Iterable[str], *, lease: int | None = None) -> int:
        """Delete keys, or those under `lease`, in one revision; none is no error."""
        async with self._turn() as contents:
            return contents.delete(
                key for key in keys if lease is None or contents.is_held(key, lease)
            )

    async def read(self, keys: Iterable[str]) -> tuple[KeyValue, ...]:
        """Those of `keys` that are there."""
        async with self._turn() as contents:
            return tuple(contents.entries[key] for key in keys if key in contents.entries)

    async def list(self, *prefixes: str, also: str | None = None) -> Listing:
        """All keys that start with one of `prefixes`, and the key `also`, in order."""
        async with self._turn() as contents:
            found = sorted(filter(keys_of(prefixes, also), contents.entries))
            return Listing(contents.revision, tuple(contents.entries[key] for key in found))

    def watch(
        self, *prefixes: str, after: int, also: str | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[Batch]]:
        """Changes under `prefixes`, and of `also`, of all revisions > `after`."""
        return contextlib.aclosing(self._follow(keys_of(prefixes, also), after, self._breaks))

    async def aclose(self) -> None:
        """Nothing to close; the contents stay, as a server's would."""

    # -- faults: one at a time, until `heal`

    def cut(
        self, error: Callable[[], RegistryError] = lambda: RegistryUnavailable("told to fail")
    ) -> None:
        """Raise `error()` from every operation and every watch; leases go on to expire."""
        self._meet(Fault(error=error), breaks=True)

    def expire_token(self) -> None:
        """Refuse everybody with `RegistryAuthError`; `heal` renews the token."""
        self.cut(lambda: RegistryAuthError("invalid auth token"))

    def pause(self) -> None:
        """Answer nothing, as a frozen process: what is asked meanwhile is done after `heal`."""
        self._meet(Fault(keeps_requests=True))

    def mute(self) -> None:
        """Do what is asked, and answer only after `heal`; watches are silent until then."""
        self._meet(Fault(keeps_answers=True))

    def delay(self, seconds: float) -> None:
        """Do everything, and tell watches of everything, so much later."""
        self._meet(Fault(delay=seconds))

    def heal(self) -> None:
        """Work again. What was written is still there; what expired meanwhile is not."""
        self._meet(Fault())

    # -- what happens to a server's data; all watches end, as with a restart

    def wipe(self) -> None:
        """Lose everything and count revisions from 1 again, as an etcd on a new disk."""
        self._replace(Contents())

    def backup(self) -> Contents:
        """All that stands now, for `restore`."""
        with self._alone() as contents:
            return contents.copy(self._clock())

    def restore(self, backup: Contents) -> None:
        """Go back to `backup`, revision and leases included; a lease has its full time again."""
        self._replace(backup.copy(self._clock()))

    # -- what somebody does by hand

    def compact(self, revision: int | None = None) -> None:
        """Forget the history up to and including `revision`; None: all of it."""
        with self._alone() as contents:
            contents.compact(contents.revision if revision is None else revision)

    def entries(self) -> Mapping[str, KeyValue]:
        """All that stands now, by key."""
        with self._alone() as contents:
            return MappingProxyType(dict(contents.entries))

    def overwrite(self, key: str, value: bytes, *, lease: int = 0) -> None:
        """Write a key under `lease` (0: none), whosever it is."""
        with self._alone() as contents:
            contents.commit([KeyValue(key, value, lease)])

    def erase(self, *keys: str) -> None:
        """Delete keys, in one revision, whosever they are."""
        with self._alone() as contents:
            contents.delete(keys)

    def end_lease(self, lease: int) -> None:
        """Revoke a lease and delete its keys."""
        with self._alone() as contents:
            contents.end(lease)

    def tick(self) -> None:
        """Expire leases now: the clock was moved by hand."""
        with self._alone():
            pass

    # -- within

    @contextlib.asynccontextmanager
    async def _turn(self) -> AsyncIterator[Contents]:
        # The store answers at once, but callers must not come to rely on never being interrupted.
        await anyio.lowlevel.checkpoint()
        if delay := self._fault.delay:
            await anyio.sleep(delay)
        await self._while_kept(lambda fault: fault.keeps_requests)
        with self._alone() as contents:
            if self._fault.error is not None:
                raise self._fault.error()
            yield contents
        await self._while_kept(lambda fault: fault.keeps_answers)
        if self._fault.error is not None:
            raise self._fault.error()  # done, and never answered

    async def _while_kept(self, is_kept: Callable[[Fault], bool]) -> None:
        if not is_kept(self._fault):
            return
        bell = self._hang_bell()
        while is_kept(self._fault):
            await bell.wait(None)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[Contents]:
        """Nobody else uses the contents; a change made meanwhile wakes the watches."""
        with self._lock:
            contents, before = self._contents, self._contents.revision
            contents.expire(self._clock())
            try:
                yield contents
            finally:
                if contents.revision != before:
                    self._ring()

    async def _follow(
        self, keys: Callable[[str], bool], after: int, breaks: int
    ) -> AsyncGenerator[Batch, None]:
        bell = self._hang_bell()
        while True:
            async with self._turn() as contents:
                if self._breaks != breaks:
                    raise RegistryUnavailable(f"{self._name}: the watch broke")
                batches = contents.since(keys, after)
                after = contents.revision
                expiry = min((e.expires_at for e in contents.leases.values()), default=None)
            for batch in batches:
                yield batch
            if not batches:
                await bell.wait(None if expiry is None else expiry - self._clock())

    def _hang_bell(self) -> Bell:
        bell = Bell()
        with self._lock:
            self._bells[bell] = None
        return bell

    def _meet(self, fault: Fault, *, breaks: bool = False) -> None:
        with self._lock:
            self._fault = fault
            self._breaks += breaks
            self._ring()

    def _replace(self, contents: Contents) -> None:
        with self._lock:
            self._contents = contents
            self._breaks += 1
            self._ring()

    def _ring(self) -> None:
        for bell in self._bells:
            bell.ring()
