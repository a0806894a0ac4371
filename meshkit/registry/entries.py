"""The entries of a service by key and by address, and the endpoints that stand because of them.

A change costs as much as there are changes, whatever the number of entries.
"""

from __future__ import annotations

import math
from collections.abc import ItemsView, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import final

from meshkit.endpoint import Endpoint, EndpointSet

__all__ = ["Entries", "Entry"]


@final
@dataclass(frozen=True, slots=True)
class Entry:
    """What is believed of a key.

    Attributes:
        endpoint: what it says.
        missing_since: when it was missed, in seconds; None: confirmed. Otherwise it is held.
        deleted: a deletion named it, and is not believed yet.
        recalled: an earlier process knew it, and the registry was not asked yet.
        lease: under which it is written; what is written without one, 0, tells of nobody.
        detail: how much its layout can say.
    """

    endpoint: Endpoint
    missing_since: float | None = None
    deleted: bool = False
    recalled: bool = False
    lease: int = 0
    detail: int = 0

    @property
    def leased(self) -> bool:
        """Whether it ends unless its owner renews it."""
        return self.lease != 0

    def postponed(self, seconds: float) -> Entry:
        """The same, missed so much later; a confirmed one as it is."""
        if self.missing_since is None:
            return self
        return replace(self, missing_since=self.missing_since + seconds)


@final
class Entries:
    """Entries in order of age, the newest last.

    Of those at one address the one with the most detail stands, and of equals the newest.

    Args:
        service: the service's name.
        hold: seconds for which an entry is held.
    """

    def __init__(self, service: str, *, hold: float) -> None:
        self.standing = EndpointSet(service)
        self._hold = hold
        self._entries: dict[str, Entry] = {}
        self._held: dict[str, Entry] = {}
        self._renewed: set[str] = set()  # confirmed, under a lease
        self._keys_at: dict[str, tuple[str, ...]] = {}
        self._stands_at: dict[str, Endpoint] = {}
        self._touched: set[str] = set()  # addresses
        self._nothing_due_before = math.inf

    def items(self) -> ItemsView[str, Entry]:
        """All keys and what is believed of them."""
        return self._entries.items()

    @property
    def held(self) -> Mapping[str, Entry]:
        """Those that are not confirmed."""
        return MappingProxyType(self._held)

    @property
    def any_confirmed(self) -> bool:
        """Whether there is one that is not held."""
        return len(self._held) < len(self._entries)

    @property
    def any_renewed(self) -> bool:
        """Whether there is one that is not held, and ends unless somebody renews it."""
        return bool(self._renewed)

    def put(self, key: str, entry: Entry) -> None:
        """Adopt an entry; one with an equal endpoint keeps its age, another one is new."""
        known = self._entries.get(key)
        if known == entry:
            return
        if known is not None and known.endpoint != entry.endpoint:
            self.pop(key)
        address = entry.endpoint.address
        if key not in self._entries:
            self._keys_at[address] = (*self._keys_at.get(address, ()), key)
        self._entries[key] = entry
        self._renewed.discard(key)
        if entry.missing_since is None:
            self._held.pop(key, None)
            if entry.leased:
                self._renewed.add(key)
        else:
            self._held[key] = entry
            due = entry.missing_since + self._hold
            self._nothing_due_before = min(self._nothing_due_before, due)
        self._touched.add(address)

    def pop(self, key: str) -> Entry | None:
        """Forget an entry."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._held.pop(key, None)
            self._renewed.discard(key)
            address = entry.endpoint.address
            self._keys_at[address] = tuple(k for k in self._keys_at[address] if k != key)
            self._touched.add(address)
        return entry

    def same_owner(self, entry: Entry) -> dict[str, Entry]:
        """What else the owner of `entry` has written of the same address, under the same lease."""
        keys = self._keys_at.get(entry.endpoint.address, ()) if entry.leased else ()
        return {k: e for k in keys if (e := self._entries[k]).lease == entry.lease}

    def key_of(self, endpoint: Endpoint) -> str:
        """The key because of which an endpoint stands."""
        return self._best_key(self._keys_at[endpoint.address])

    @property
    def next_expiry(self) -> float | None:
        """When the next held entry may go; None if time alone ends none."""
        since = [
            entry.missing_since
            for entry in self._held.values()
            if entry.missing_since is not None and (self.any_confirmed or entry.deleted)
        ]
        return min(since) + self._hold if since else None

    def settle(self, now: float, revision: int) -> EndpointSet:
        """The endpoints that stand at `now`; the same object as before if they are the same."""
        if now >= self._nothing_due_before:
            self._expire(now)
        put: dict[str, Endpoint] = {}
        drop: list[str] = []
        touched, self._touched = self._touched, set()
        for address in touched:
            stood, stands = self._stands_at.pop(address, None), self._best_at(address)
            if stands is not None:
                self._stands_at[address] = stands
            if stood != stands:
                drop += [stood.id] if stood is not None else []
                put |= {stands.id: stands} if stands is not None else {}
        self._touched.clear()  # whom a confirmed one ended was at an address that is settled
        if put or drop:
            self.standing = self.standing.with_changes(put, drop, revision=revision)
        return self.standing

    def _expire(self, now: float) -> None:
        """Let go of those that were held long enough; without a confirmed one, few of them."""
        due = {key: entry for key, entry in self._held.items() if self._due(entry) <= now}
        for key, entry in due.items():
            if self.any_confirmed or entry.deleted:
                self.pop(key)
        self._nothing_due_before = min(map(self._due, self._held.values()), default=math.inf)

    def _due(self, entry: Entry) -> float:
        return (entry.missing_since or 0.0) + self._hold

    def _best_at(self, address: str) -> Endpoint | None:
        """Who stands at an address; a confirmed one ends all that are held there."""
        keys = self._keys_at[address]
        if len(keys) > 1 and any(key not in self._held for key in keys):
            for key in keys:
                if key in self._held:
                    self.pop(key)
            keys = self._keys_at[address]
        if not keys:
            del self._keys_at[address]
            return None
        return self._entries[self._best_key(keys)].endpoint

    def _best_key(self, keys: tuple[str, ...]) -> str:
        return max(reversed(keys), key=lambda key: self._entries[key].detail)
