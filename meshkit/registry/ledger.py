"""What should stand in the store and what does, as far as we know. No loop, no store in here."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, final

from meshkit.registry.store import KeyValue

__all__ = ["Ledger"]

_LEFT: Final = 16  # keys; a process may announce and leave for ever, a request has room for 128


@final
class Ledger:
    """Two books of keys and values, and the difference between them.

    A write whose answer never came may have happened or not: its keys are booked as perhaps
    standing, so they are written again if they are wanted, and deleted if they are not.
    """

    def __init__(self) -> None:
        self.wanted: dict[str, bytes] = {}
        self._leaving: set[str] = set()
        self._standing: dict[str, bytes | None] = {}  # None: perhaps, with any value
        self._left: deque[str] = deque(maxlen=_LEFT)

    def want(self, entries: Mapping[str, bytes]) -> None:
        """From now on `entries` should stand."""
        self.wanted.update(entries)

    def leave(self, entries: Mapping[str, bytes]) -> None:
        """The last words of `entries`, which should stand as long as their keys are ours."""
        self.want(entries)
        self._leaving |= entries.keys()

    def unwant(self, keys: Iterable[str]) -> None:
        """From now on `keys` should not stand."""
        for key in keys:
            self.wanted.pop(key, None)
            self._leaving.discard(key)

    @property
    def left(self) -> tuple[str, ...]:
        """What was deleted for certain while our lease lived on; a few, the newest last."""
        return tuple(key for key in self._left if key not in self.wanted)

    def missing(self) -> dict[str, bytes]:
        """What has to be written, whoever's the keys are."""
        return {k: v for k, v in self._unwritten() if k not in self._leaving}

    def unsaid(self) -> dict[str, bytes]:
        """What has to be written to keys that are ours."""
        return {k: v for k, v in self._unwritten() if k in self._leaving}

    def _unwritten(self) -> Iterator[tuple[str, bytes]]:
        return (entry for entry in self.wanted.items() if not self.has(dict([entry])))

    def surplus(self) -> tuple[str, ...]:
        """What has to be deleted."""
        return tuple(key for key in self._standing if key not in self.wanted)

    def has(self, entries: Mapping[str, bytes]) -> bool:
        """Whether all `entries` stand for certain."""
        return all(self._standing.get(key) == value for key, value in entries.items())

    def differs(self, entry: KeyValue, lease: int) -> bool:
        """Whether `entry`, as the store has it, is not what stands for certain under `lease`."""
        return entry.lease != lease or self._standing.get(entry.key) != entry.value

    def doubt(self, keys: Iterable[str]) -> None:
        """Nobody knows of `keys`: a request is sent and not answered, or they are back."""
        self._standing.update(dict.fromkeys(keys))

    def written(self, entries: Mapping[str, bytes]) -> None:
        """The store has confirmed `entries`."""
        self._standing.update(entries)

    def gone(self, keys: Iterable[str]) -> None:
        """The store has confirmed that `keys` do not stand."""
        for key in keys:
            self._standing.pop(key, None)
            if key not in self.wanted:
                self._left.append(key)

    def clear(self) -> None:
        """Our lease ended, and everything with it."""
        self._standing.clear()
        self._left.clear()
