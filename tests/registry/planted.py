"""Bugs that were, or could be, in the registry room: each is planted for the length of a block."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from meshkit.registry.announcer import Announcer
from meshkit.registry.ledger import Ledger
from meshkit.registry.memory import MemoryStore
from meshkit.registry.view import View

Plant = Callable[[pytest.MonkeyPatch], None]


def the_first_change_after_a_list_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """As by a watch from one revision too late."""

    async def follow(self: MemoryStore, prefix: str, after: int, breaks: int) -> Any:
        skipped = False
        async for batch in original(self, prefix, after, breaks):
            if skipped:
                yield batch
            skipped = True

    original = MemoryStore._follow
    monkeypatch.setattr(MemoryStore, "_follow", follow)


def a_list_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty one, too."""

    def relist(self: View, listing: Any, now: float, **options: Any) -> Any:
        found = {item.key for item in listing.items}
        for key in [key for key, _ in self._entries.items() if key not in found]:
            self._entries.pop(key)
        return original(self, listing, now, **options)

    original = View.relist
    monkeypatch.setattr(View, "relist", relist)


def the_last_deletion_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """So a frozen registry that wakes and ends all leases empties the set."""
    monkeypatch.setattr(View, "_settle", View.expire)


def an_outage_counts_for_what_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(View, "_postpone", lambda self, seconds: None)


def nothing_is_written_again_after_a_wipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ledger, "clear", lambda self: None)


def a_lease_that_is_gone_is_renewed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def renew(self: Announcer, lease: Any) -> None:
        await self._store.renew(lease.id)
        self._confirm(lease.renewed(lease.ttl, asked_at=self._clock()))

    monkeypatch.setattr(Announcer, "_renew", renew)


def own_keys_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """So one that was deleted by hand stays away."""

    async def look(self: Announcer, lease: Any, keys: Any) -> None:
        self._seen = True

    monkeypatch.setattr(Announcer, "_look", look)


def keys_that_were_deleted_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """So a restored registry has an endpoint for ever that was withdrawn."""
    monkeypatch.setattr(Ledger, "left", ())


def a_write_without_an_answer_did_not_happen(monkeypatch: pytest.MonkeyPatch) -> None:
    """So what was withdrawn before the answer came stands for ever."""
    monkeypatch.setattr(Ledger, "doubt", lambda self, keys: None)
