"""What a watcher believes of one service: entries in, `EndpointSet` out. No loop, no clock in here.

Deletions that are seen in order are believed at once, until they leave nobody who renews a lease:
then all who went a moment ago are held after all. A registry that was frozen ends every lease the
moment it wakes, while the servers live; what was written there without a lease stays, and may be
long dead. Whoever leaves on purpose says so first (`DRAINING`), and is believed.

What is merely missing from a *re-list* is not gone: after a lost connection the list may come from
an older backup, or be empty because a wipe ended every lease a moment ago.

What is not believed is held as unconfirmed until its owner had the time to announce itself again;
the length of an outage does not count.
What no deletion named stays even longer while nothing at all is confirmed, since an empty set
would stop the traffic of a service that may well live.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import final

from meshkit.endpoint import Endpoint, EndpointSet, State
from meshkit.registry.entries import Entries, Entry
from meshkit.registry.store import Batch, KeyValue, Listing

__all__ = ["View"]


@final
class View:
    """One service's entries, reduced to its endpoints.

    There is one per address: the one with the most detail, and of equals the newest.

    All methods that take news return the set that holds now: the same object as before if its
    endpoints are the same.

    Args:
        service: the service's name.
        decode: reads an entry, or raises `ValueError`.
        hold: seconds for which an endpoint missing from a re-list is kept.
        skip: told the key and the reason of an entry that is no endpoint; once per key and value.
        detail: how much the layout of a key can say.
    """

    def __init__(
        self,
        service: str,
        decode: Callable[[str, bytes], Endpoint],
        *,
        hold: float,
        skip: Callable[[str, str], None],
        detail: Callable[[str], int] = lambda _key: 0,
    ) -> None:
        self._decode = decode
        self._skip = skip
        self._detail = detail
        self._hold = hold
        self._entries = Entries(service, hold=hold)
        self._gone: dict[str, Entry] = {}  # whose deletion was believed
        self._skipped: dict[str, bytes] = {}
        self._revision = 0

    @property
    def unconfirmed(self) -> int:
        """How many entries are held although the last list did not have them."""
        return len(self._entries.held)

    @property
    def any_confirmed(self) -> bool:
        """Whether the registry confirms any endpoint."""
        return self._entries.any_confirmed

    @property
    def next_expiry(self) -> float | None:
        """When the next held entry may go, on the clock of `now`; None if time alone ends none."""
        return self._entries.next_expiry

    def confirmed(self) -> Mapping[str, Endpoint]:
        """The endpoints that the registry confirms, by key."""
        return {
            key: entry.endpoint
            for key, entry in self._entries.items()
            if entry.missing_since is None
        }

    def key_of(self, endpoint: Endpoint) -> str:
        """The key because of which an endpoint stands."""
        return self._entries.key_of(endpoint)

    def recall(self, items: Iterable[KeyValue], now: float) -> EndpointSet:
        """Take what an earlier process knew; it is held until the first list says what holds."""
        for item in items:
            entry = self._read(item)
            if entry is not None:
                self._entries.put(item.key, replace(entry, missing_since=now, recalled=True))
        return self.expire(now)

    def relist(self, listing: Listing, now: float, *, unheard: float = 0.0) -> EndpointSet:
        """Take a list of all entries; the first one is believed as it is.

        But for one thing: if it is empty, what an earlier process knew is held, as if we had.

        Args:
            listing: all entries.
            now: in seconds.
            unheard: seconds for which the registry could not be reached, until now. Nobody could
                announce himself meanwhile, so they count for nothing that is held.
        """
        self._postpone(unheard)
        self._forget(now)
        self._revision = listing.revision
        found = {item.key: self._read(item) for item in listing.items}
        self._skipped = {key: value for key, value in self._skipped.items() if key in found}
        is_empty = all(entry is None for entry in found.values())
        for key, entry in list(self._entries.items()):
            if found.get(key) is not None:
                continue
            if entry.recalled and not is_empty:
                self._entries.pop(key)
            elif entry.recalled or entry.missing_since is None:
                self._entries.put(key, replace(entry, missing_since=now, recalled=False))
        for key, confirmed in found.items():
            if confirmed is not None:
                self._confirm(key, confirmed)
        return self._settle(now)

    def apply(self, batch: Batch, now: float) -> EndpointSet:
        """Take the changes of one revision; deletions are believed, but for the last ones."""
        self._revision = batch.revision
        deleted: dict[str, Entry] = {}
        for change in batch.changes:
            confirmed = self._read(change)
            if confirmed is not None:
                deleted.pop(change.key, None)
                self._confirm(change.key, confirmed)
            elif (entry := self._entries.pop(change.key)) is not None:
                deleted[change.key] = entry
        for key, entry in self._without_echoes(deleted).items():
            if entry.deleted:
                self._gone[key] = entry  # named once more: its time goes on
            elif entry.missing_since is None and entry.endpoint.state is not State.DRAINING:
                self._gone[key] = replace(entry, missing_since=now, deleted=True)
        return self._settle(now)

    def _without_echoes(self, deleted: Mapping[str, Entry]) -> dict[str, Entry]:
        """Those of `deleted` that say most of their endpoint; what says less goes with them.

        An owner takes the keys of all layouts away at once, and we may hear of each by itself, in
        any order. Whoever looked at the poorer ones would see somebody new, or miss the last words.
        """
        most: dict[tuple[str, int], int] = {}
        for entry in deleted.values():
            owner = entry.endpoint.address, entry.lease
            others = self._entries.same_owner(entry)
            details = [other.detail for other in others.values()]
            most[owner] = max(most.get(owner, 0), entry.detail, *details)
            if all(detail < entry.detail for detail in details):
                for key in others:
                    self._entries.pop(key)
        return {
            key: entry
            for key, entry in deleted.items()
            if not entry.leased or entry.detail == most[entry.endpoint.address, entry.lease]
        }

    def expire(self, now: float) -> EndpointSet:
        """Let go of what was held long enough, or stands again under another key."""
        return self._entries.settle(now, self._revision)

    def _confirm(self, key: str, entry: Entry) -> None:
        self._entries.put(key, entry)
        self._gone.pop(key, None)

    def _settle(self, now: float) -> EndpointSet:
        """Without anybody who renews a lease, those who went a moment ago are held after all."""
        if not self._entries.any_renewed:
            nobody = not self._entries.any_confirmed
            for key, entry in list(self._gone.items()):
                if entry.leased or nobody:
                    self._entries.put(key, entry)  # for the rest of its time, if there is one
                    del self._gone[key]
        return self.expire(now)

    def _postpone(self, seconds: float) -> None:
        """Give all that is held, or may be, so much more time."""
        if seconds:
            for key, entry in list(self._entries.held.items()):
                self._entries.put(key, entry.postponed(seconds))
            self._gone = {key: entry.postponed(seconds) for key, entry in self._gone.items()}

    def _forget(self, now: float) -> None:
        """Let go of those who went long ago."""
        self._gone = {
            key: entry
            for key, entry in self._gone.items()
            if entry.missing_since is not None and now < entry.missing_since + self._hold
        }

    def _read(self, item: KeyValue) -> Entry | None:
        """What the registry says of a key; None if there is no endpoint."""
        key, value = item.key, item.value
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
        return Entry(endpoint, lease=item.lease, detail=self._detail(key))
