"""What should stand in the store and what does, as far as we know. No loop, no store in here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import final

from meshkit.registry.store import KeyValue

__all__ = ["Ledger"]


@final
class Ledger:
    """Two books of keys and values, and the difference between them.

    A write whose answer never came may have happened or not: its keys are booked as perhaps
    standing, so they are written again if they are wanted, and deleted if they are not.
    """

    def __init__(self) -> None:
        self.wanted: dict[str, bytes] = {}
        self._standing: dict[str, bytes | None] = {}  # None: perhaps, with any value

    def want(self, entries: Mapping[str, bytes]) -> None:
        """From now on `entries` should stand."""
        self.wanted.update(entries)

    def unwant(self, keys: Iterable[str]) -> None:
        """From now on `keys` should not stand."""
        for key in keys:
            self.wanted.pop(key, None)

    def missing(self) -> dict[str, bytes]:
        """What has to be written."""
        return {key: value for key, value in self.wanted.items() if not self.has({key: value})}

    def surplus(self) -> tuple[str, ...]:
        """What has to be deleted."""
        return tuple(key for key in self._standing if key not in self.wanted)

    def has(self, entries: Mapping[str, bytes]) -> bool:
        """Whether all `entries` stand for certain."""
        return all(self._standing.get(key) == value for key, value in entries.items())

    def differs(self, entry: KeyValue, lease: int) -> bool:
        """Whether `entry`, as the store has it, is not what stands for certain under `lease`."""
        return entry.lease != lease or self._standing.get(entry.key) != entry.value

    def writing(self, entries: Mapping[str, bytes]) -> None:
        """The request is sent; until it is answered nobody knows."""
        self._standing.update(dict.fromkeys(entries))

    def written(self, entries: Mapping[str, bytes]) -> None:
        """The store has confirmed `entries`."""
        self._standing.update(entries)

    def gone(self, keys: Iterable[str]) -> None:
        """The store has confirmed that `keys` do not stand."""
        for key in keys:
            self._standing.pop(key, None)

    def clear(self) -> None:
        """Our lease ended, and everything with it."""
        self._standing.clear()
