"""What a watcher believes of one service: entries in, `EndpointSet` out. No loop, no clock in here.

Deletions that are seen in order are believed at once, but for those that would leave nothing: a
registry that was frozen ends every lease the moment it wakes, while the servers live. Whoever
leaves on purpose says so first (`DRAINING`), and is believed.

What is merely missing from a *re-list* is not gone: after a lost connection the list may come from
an older backup, or be empty because a wipe ended every lease a moment ago.

What is not believed is held as unconfirmed until its owner had the time to announce itself again.
What no deletion named stays even longer while nothing at all is confirmed, since an empty set
would stop the traffic of a service that may well live.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

from meshkit.endpoint import Endpoint, EndpointSet, State
from meshkit.registry.store import Batch, Listing

__all__ = ["View"]


@final
@dataclass(frozen=True, slots=True)
class _Entry:
    endpoint: Endpoint
    missing_since: float | None = None  # None: confirmed
    deleted: bool = False  # a deletion named it, and is not believed yet


@final
class View:
    """One service's entries, reduced to its endpoints; one per address, the newest stands.

    All methods that take news return the set that holds now: the same object as before if its
    endpoints are the same.

    Args:
        service: the service's name.
        decode: reads an entry, or raises `ValueError`.
        hold: seconds for which an endpoint missing from a re-list is kept.
        skip: told the key and the reason of an entry that is no endpoint; once per key and value.
    """

    def __init__(
        self,
        service: str,
        decode: Callable[[str, bytes], Endpoint],
        *,
        hold: float,
        skip: Callable[[str, str], None],
    ) -> None:
        self._decode = decode
        self._hold = hold
        self._skip = skip
        self._entries: dict[str, _Entry] = {}  # the order is the age: the newest last
        self._skipped: dict[str, bytes] = {}
        self._revision = 0
        self._set = EndpointSet(service)

    @property
    def unconfirmed(self) -> int:
        """How many entries are held although the last list did not have them."""
        return sum(entry.missing_since is not None for entry in self._entries.values())

    @property
    def next_expiry(self) -> float | None:
        """When the next held entry may go, on the clock of `now`; None if time alone ends none."""
        entries = self._entries.values()
        confirmed = any(entry.missing_since is None for entry in entries)
        since = [
            entry.missing_since
            for entry in entries
            if entry.missing_since is not None and (confirmed or entry.deleted)
        ]
        return min(since) + self._hold if since else None

    def relist(self, listing: Listing, now: float) -> EndpointSet:
        """Take a list of all entries; the first one is believed as it is."""
        self._revision = listing.revision
        found = {item.key: self._read(item.key, item.value) for item in listing.items}
        self._skipped = {key: value for key, value in self._skipped.items() if key in found}
        for key, entry in self._entries.items():
            if found.get(key) is None and entry.missing_since is None:
                self._entries[key] = _Entry(entry.endpoint, missing_since=now)
        for key, endpoint in found.items():
            if endpoint is not None:
                self._put(key, endpoint)
        return self.expire(now)

    def apply(self, batch: Batch, now: float) -> EndpointSet:
        """Take the changes of one revision; deletions are believed, but for the last ones."""
        self._revision = batch.revision
        deleted: dict[str, _Entry] = {}
        for change in batch.changes:
            endpoint = self._read(change.key, change.value)
            if endpoint is not None:
                deleted.pop(change.key, None)
                self._put(change.key, endpoint)
            elif (entry := self._entries.pop(change.key, None)) is not None:
                deleted[change.key] = entry
        if all(entry.missing_since is not None for entry in self._entries.values()):
            for key, entry in deleted.items():
                if entry.deleted:
                    self._entries[key] = entry  # named once more: it is held as it was
                elif entry.missing_since is None and entry.endpoint.state is not State.DRAINING:
                    self._entries[key] = _Entry(entry.endpoint, missing_since=now, deleted=True)
        return self.expire(now)

    def expire(self, now: float) -> EndpointSet:
        """Let go of what was held long enough, or stands again under another key."""
        confirmed = {e.endpoint.address for e in self._entries.values() if e.missing_since is None}
        self._entries = {
            key: entry
            for key, entry in self._entries.items()
            if entry.missing_since is None
            or (not confirmed and not entry.deleted)
            or (entry.endpoint.address not in confirmed and now < entry.missing_since + self._hold)
        }
        endpoints = (entry.endpoint for entry in self._entries.values())
        settled = EndpointSet.of(self._set.service, endpoints, revision=self._revision)
        if settled.by_id != self._set.by_id:
            self._set = settled
        return self._set

    def _read(self, key: str, value: bytes | None) -> Endpoint | None:
        if value is None:
            self._skipped.pop(key, None)
            return None
        try:
            endpoint = self._decode(key, value)
        except ValueError as error:
            if self._skipped.get(key) != value:
                self._skipped[key] = value
                self._skip(key, str(error))
            return None
        self._skipped.pop(key, None)
        return endpoint

    def _put(self, key: str, endpoint: Endpoint) -> None:
        known = self._entries.get(key)
        if known is not None and known.endpoint != endpoint:
            del self._entries[key]  # an equal one keeps its age, another one is new
        self._entries[key] = _Entry(endpoint)
