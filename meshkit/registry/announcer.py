"""Makes a store hold what a ledger wants, under one lease: one task, for ever.

The task compares what is wanted with what stands and does the most urgent thing that is missing,
one at a time. So there is no path for "again": after a lost lease nothing stands, and everything
is announced as it was the first time.

No answer is not a lost lease: a store that restarts gives every lease its full time again. The same
lease is renewed until the store itself says that it is gone.

A lease that lives does not prove that its keys stand, so after each renewal they are read: one
request for all of them, where a watch would be one more in the server for each. The answer may be a
moment old, and what it tells of stood for a third of the lease's time: that makes no difference.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Final, NoReturn, Protocol, TypeAlias, final

import anyio

from meshkit.backoff import Backoff
from meshkit.errors import ConfigError, RegistryAuthError, RegistryError
from meshkit.events import Emit, LeaseLost, LeaseUnconfirmed
from meshkit.latest import Latest
from meshkit.registry.lease import Lease
from meshkit.registry.ledger import Ledger
from meshkit.registry.outage import Outage, bounded
from meshkit.registry.store import KeyValue, LeaseGone, Store

__all__ = ["Announcer", "Owner"]

_Step: TypeAlias = Callable[[], Awaitable[None]]

_RENEW_JITTER: Final = 0.1  # renew up to this share earlier: servers that start together spread


class Owner(Protocol):
    """Whose entries they are; told what became of them, synchronously."""

    def written(self, entries: Mapping[str, bytes], lease: Lease) -> None:
        """`entries` stand now, under `lease`."""
        ...

    def lost(self, keys: Iterable[str], since: float, *, deleted: bool) -> None:
        """`keys` stood at `since` for the last time: somebody `deleted` them, or else their lease
        ended.
        """
        ...

    def taken_over(self, entry: KeyValue, since: float) -> None:
        """`entry` stands where one of ours did, which stood at `since` for the last time."""
        ...

    def refused(self, error: Exception) -> bool:
        """The store does not let us; True if that was told to somebody, and entries taken back."""
        ...


@final
class Announcer:
    """Keeps the entries of its ledger standing under one lease, as long as `run` runs.

    `run` may be started again after an error: all state is here. Whoever changes the ledger sets
    `turn`; it is set whenever something may have changed.

    Args:
        store: where the entries are written.
        owner: told what became of them.
        ttl: of the lease, in seconds.
        outage: told of trouble and of its end.
    """

    def __init__(
        self,
        store: Store,
        owner: Owner,
        *,
        ttl: float,
        outage: Outage,
        emit: Emit,
        rng: random.Random,
        clock: Callable[[], float],
    ) -> None:
        self.ledger = Ledger()
        self.lease: Lease | None = None
        self.turn: Latest[None] = Latest(None)
        self.trouble = "no answer yet"
        self._store = store
        self._owner = owner
        self._ttl = ttl
        self._outage = outage
        self._emit = emit
        self._rng = rng
        self._clock = clock
        # One hung request and two waits after the registry is back, its endpoints stand again:
        # together they stay below ttl/3 + 1 s. With a short ttl that leaves a request more than a
        # quarter of it: an etcd that is slow, but answers within a second, has to suffice.
        self._patience = max(ttl / 4, ttl / 6 + 0.75)
        limit = min(1.0, ttl / 12)
        self._backoff = Backoff(first=min(0.5, limit), limit=limit)
        self._delays = self._backoff.delays(rng)
        self._renew_at = 0.0
        self._doubted = False  # the lease's time passed without an answer, and we said so
        self._renewed_last = False  # nothing else was done since
        self._seen = True  # our keys, since the lease was renewed
        self._seen_at = 0.0
        self._may_read = True  # our keys, as far as we know

    async def run(self) -> NoReturn:
        """Do what is missing, one thing at a time, for ever."""
        while True:
            step = self._next_step()
            if step is None:
                await self._rest()
            elif await self._try(step):
                self.turn.set(None)
            else:
                self.turn.set(None)
                await anyio.sleep(next(self._delays))

    async def _try(self, step: _Step) -> bool:
        try:
            with bounded(self._patience):
                await step()
        except LeaseGone:
            self._lose()
            return False
        except (RegistryError, ConfigError) as error:
            self._fail(error)
            return False
        return True

    async def _rest(self) -> None:
        """All is well: sleep until the lease is to be renewed, or something else is wanted."""
        if self.lease is None:
            self._outage.leave(self)
            await self.turn.changed()
            return
        self._outage.end(self)
        with anyio.move_on_after(self._renew_at - self._clock()):
            await self.turn.changed()

    # -- decisions: no await in here

    def _next_step(self) -> _Step | None:
        """The most urgent thing to do; None if all is well."""
        lease, ledger = self.lease, self.ledger
        if lease is None:
            return self._grant if ledger.wanted else None
        if not ledger.wanted:
            return partial(self._revoke, lease)
        other = self._step_beside(lease)
        # From a slow store a renewal may come back when the next one is due already.
        if self._clock() >= self._renew_at and not (self._renewed_last and other):
            return partial(self._renew, lease)
        return other

    def _step_beside(self, lease: Lease) -> _Step | None:
        """The most urgent thing to do besides renewing; None if all is as it should be."""
        ledger = self.ledger
        if missing := ledger.missing():
            return partial(self._put, lease, missing)
        if unsaid := ledger.unsaid():
            return partial(self._put, lease, unsaid, if_held=True)
        if surplus := ledger.surplus():
            return partial(self._delete, lease, surplus)
        if not self._seen:
            return partial(self._look, lease, tuple(ledger.wanted))
        return None

    def _confirm(self, lease: Lease) -> None:
        self.lease = lease
        self._doubted = False
        early = self._rng.uniform(0.0, _RENEW_JITTER) * lease.ttl / 3
        self._renew_at = lease.renew_at - early

    def _forget(self) -> None:
        self.lease = None
        self._doubted = False
        self.ledger.clear()

    def _lose(self) -> None:
        lease = self.lease
        self._forget()
        self.trouble = "the registry ended our lease"
        if lease is not None:
            self._owner.lost(tuple(self.ledger.wanted), lease.confirmed_at, deleted=False)
            held_for = self._clock() - lease.granted_at
            self._emit(LeaseLost(self._store.name, lease.id, held_for))

    def _fail(self, error: Exception) -> None:
        self.trouble = str(error)
        refused = isinstance(error, RegistryAuthError | ConfigError)
        told = refused and self._owner.refused(error)
        if self.ledger.wanted and not told:
            self._outage.begin(self, error)
        lease, now = self.lease, self._clock()
        if lease is not None and now >= lease.expires_at and not self._doubted:
            self._doubted = True
            self._emit(LeaseUnconfirmed(self._store.name, lease.id, now - lease.confirmed_at))

    # -- steps: one request each

    async def _grant(self) -> None:
        asked_at = self._clock()
        grant = await self._store.grant(self._ttl)
        self._confirm(Lease.granted(grant.lease, grant.ttl, asked_at=asked_at))

    async def _renew(self, lease: Lease) -> None:
        asked_at = self._clock()
        ttl = await self._store.renew(lease.id)
        if ttl <= 0:
            raise LeaseGone("the lease has expired")
        self._confirm(lease.renewed(ttl, asked_at=asked_at))
        self._seen, self._renewed_last = False, True
        self._delays = self._backoff.delays(self._rng)

    async def _put(
        self, lease: Lease, entries: Mapping[str, bytes], *, if_held: bool = False
    ) -> None:
        asked_at, self._renewed_last = self._clock(), False
        self.ledger.doubt(entries)
        try:
            await self._store.put(entries, lease=lease.id, if_held=if_held and self._may_read)
        except (RegistryAuthError, ConfigError):
            self.ledger.gone(entries)  # refused is not "perhaps": there is nothing to delete
            raise
        self._seen_at = asked_at
        self.ledger.written(entries)
        self._owner.written(entries, lease)

    async def _look(self, lease: Lease, keys: tuple[str, ...]) -> None:
        asked_at, self._renewed_last = self._clock(), False
        try:
            read = await self._store.read((*keys, *self.ledger.left))
            found = {entry.key: entry for entry in read}
        except RegistryAuthError:
            # We may write and not read, then: nobody looks after our keys, nor whose they are.
            self._seen, self._may_read = True, False
            return
        deleted = [key for key in keys if key not in found]
        taken = [found[k] for k in keys if k in found and self.ledger.differs(found[k], lease.id)]
        # We deleted it, and it stands: the registry went back to before. Nobody else would end it.
        left = found.keys() - set(keys)
        self.ledger.doubt(key for key in left if found[key].lease == lease.id)
        self.ledger.gone([*deleted, *(entry.key for entry in taken)])
        self._owner.lost(deleted, self._seen_at, deleted=True)
        for entry in taken:
            self._owner.taken_over(entry, self._seen_at)
        self._seen, self._seen_at = True, asked_at

    async def _delete(self, lease: Lease, keys: tuple[str, ...]) -> None:
        self._renewed_last = False
        await self._store.delete(keys, lease=lease.id if self._may_read else None)
        self.ledger.gone(keys)

    async def _revoke(self, lease: Lease) -> None:
        # A lease that nobody renews has ended by itself at its time, reachable or not.
        if self._clock() < lease.expires_at:
            await self._store.revoke(lease.id)
        self._forget()
