"""What a store in memory holds: no clock, no loop, no lock, no faults."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, final

from meshkit.registry.store import Batch, Compacted, KeyValue

__all__ = ["Contents", "Lease"]

_HISTORY: Final = 10_000  # revisions kept for watches; a store that lives long must not grow


@final
@dataclass(slots=True)
class Lease:
    """A lease of `ttl` seconds, and when it ends unless it is renewed."""

    ttl: float
    expires_at: float


@final
@dataclass(slots=True)
class Contents:
    """Keys, leases and history, as of one revision."""

    revision: int = 1  # as a new etcd has it
    compacted: int = 0
    entries: dict[str, KeyValue] = field(default_factory=dict)
    leases: dict[int, Lease] = field(default_factory=dict)
    history: deque[Batch] = field(default_factory=deque)

    def copy(self, now: float) -> Contents:
        """The same once more, with full time for each lease from `now` on: so does a new etcd."""
        return Contents(
            revision=self.revision,
            compacted=self.compacted,
            entries=dict(self.entries),
            leases={i: Lease(lease.ttl, now + lease.ttl) for i, lease in self.leases.items()},
            history=deque(self.history),
        )

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

    def is_held(self, key: str, lease: int) -> bool:
        """Whether a key stands under `lease`."""
        return key in self.entries and self.entries[key].lease == lease

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

    def since(self, keys: Callable[[str], bool], after: int) -> tuple[Batch, ...]:
        """The changes of these keys that the revisions after `after` made."""
        if not self.compacted <= after <= self.revision:
            raise Compacted(f"revision {after} is not in {self.compacted}..{self.revision}")
        later = itertools.takewhile(lambda batch: batch.revision > after, reversed(self.history))
        batches = [
            Batch(batch.revision, tuple(c for c in batch.changes if keys(c.key))) for batch in later
        ]
        return tuple(batch for batch in reversed(batches) if batch.changes)

    def compact(self, revision: int) -> None:
        """Forget the history up to and including `revision`."""
        self.compacted = max(self.compacted, min(revision, self.revision))
        while self.history and self.history[0].revision <= self.compacted:
            self.history.popleft()
