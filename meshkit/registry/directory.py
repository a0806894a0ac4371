"""Keeps the names of all services of a namespace current: list, then watch, then list again.

A name without endpoints is kept for a while, as the endpoints themselves are: a registry that was
wiped, or is an older backup, must not take a service from those who use it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NoReturn, final

import anyio

from meshkit.backoff import Backoff
from meshkit.errors import RegistryError, RegistryUnavailable
from meshkit.latest import Latest
from meshkit.registry.outage import Outage, bounded
from meshkit.registry.sources import service_at
from meshkit.registry.store import Compacted, KeyValue, Store

__all__ = ["Directory"]

_BACKOFF: Final = Backoff(first=0.1, limit=1.0)
_PATIENCE: Final = 10.0  # seconds; stores are bounded themselves, this is the second belt
_JITTER: Final = 0.2


@final
class Directory:
    """The names of all services, as long as `run` runs.

    Args:
        store: where the endpoints are announced.
        roots: the prefixes of all keys; what follows is `<service>/...`.
        hold: seconds for which a service without endpoints is kept.
        relist: after how many seconds (+-20 %) a stream is ended to list again.
        outage: told of trouble and of its end.

    Attributes:
        latest: the names; None while they are not known.
    """

    def __init__(
        self,
        store: Store,
        roots: Sequence[str],
        *,
        hold: float,
        relist: float,
        outage: Outage,
        rng: random.Random,
        clock: Callable[[], float],
    ) -> None:
        self.latest: Final[Latest[frozenset[str] | None]] = Latest(None)
        self._store = store
        self._roots = roots
        self._hold = hold
        self._relist = relist
        self._outage = outage
        self._rng = rng
        self._clock = clock
        self._keys: dict[str, set[str]] = {}  # by name
        self._leaving: dict[str, float] = {}  # names without keys, and when they go

    async def run(self) -> NoReturn:
        """Follow the names, for ever."""
        delays = _BACKOFF.delays(self._rng)
        while True:
            try:
                await self._follow()
                delays = _BACKOFF.delays(self._rng)
                continue
            except Compacted:
                pass  # our revision is history: no trouble, the next list heals it
            except RegistryError as error:
                self._outage.begin(self, error)
            await anyio.sleep(next(delays))

    async def _follow(self) -> None:
        """List and watch until it is time to list again."""
        with bounded(_PATIENCE):
            listing = await self._store.list(*self._roots)
        before, self._keys = self._keys, {}
        self._take(listing.items)
        self._miss(before)
        self._publish()
        until = self._clock() + self._relist * self._rng.uniform(1 - _JITTER, 1 + _JITTER)
        with anyio.move_on_after(self._time_left(until)) as stream:
            watch = self._store.watch(*self._roots, after=listing.revision)
            async with watch as batches:
                self._outage.end(self)
                async for batch in batches:
                    self._take(batch.changes)
                    self._publish()
                    stream.deadline = anyio.current_time() + self._time_left(until)
        if not stream.cancelled_caught:
            raise RegistryUnavailable("the watch ended by itself")

    def _take(self, items: Iterable[KeyValue]) -> None:
        for item in items:
            name = service_at(item.key, self._roots)
            if name is None:
                continue
            keys = self._keys.setdefault(name, set())
            if item.value is not None:
                keys.add(item.key)
                continue
            keys.discard(item.key)
            if not keys:
                self._miss([name])

    def _miss(self, names: Iterable[str]) -> None:
        for name in names:
            if not self._keys.get(name):
                self._keys.pop(name, None)
                self._leaving.setdefault(name, self._clock() + self._hold)

    def _publish(self) -> None:
        now = self._clock()
        self._leaving = {
            name: due for name, due in self._leaving.items() if due > now and name not in self._keys
        }
        names = frozenset((*self._keys, *self._leaving))
        if names != self.latest.value:
            self.latest.set(names)

    def _time_left(self, until: float) -> float:
        return min([until, *self._leaving.values()]) - self._clock()
