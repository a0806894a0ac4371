"""Keeps one service's endpoints current: list, then watch, and list again on every new stream.

A stream that broke may have lost anything, so nothing is resumed: the list says what holds, the
`View` decides what of it to believe. Streams are ended from time to time although they seem well:
no watch can be trusted for ever, and whatever went wrong unseen heals with the next list.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final, NoReturn, final

import anyio

from meshkit.backoff import Backoff
from meshkit.discovery import Resolution
from meshkit.endpoint import EndpointSet
from meshkit.errors import ConfigError, RegistryAuthError, RegistryError, RegistryUnavailable
from meshkit.events import (
    Emit,
    EndpointsChanged,
    EndpointsFromCache,
    EntrySkipped,
    ServiceConfigUnreadable,
)
from meshkit.latest import Latest
from meshkit.registry.keeper import Keeper
from meshkit.registry.layouts import Layout
from meshkit.registry.outage import Outage, bounded, loop_time
from meshkit.registry.published import Published
from meshkit.registry.sources import Sources
from meshkit.registry.store import Compacted, KeyValue, Listing, Store
from meshkit.registry.view import View

__all__ = ["Watcher"]

_BACKOFF: Final = Backoff(first=0.1, limit=1.0)  # etcd restarts in seconds; 5 s cost 4 s of news
_PATIENCE: Final = 10.0  # seconds; stores are bounded themselves, this is the second belt
_JITTER: Final = 0.2
_SLACK: Final = 0.1  # seconds; a timer that fires a rounding error early would list for nothing


@final
class Watcher:
    """One service's endpoints, as long as `run` runs; implements `discovery.Watch`.

    Args:
        store: where the endpoints are announced.
        layouts: how they are written; the first one's place has the service config.
        namespace: under which they are written.
        service: the service's name.
        hold: seconds for which endpoints missing from a re-list are kept.
        relist: after how many seconds (+-20 %) a stream is ended to list again.
        outage: told of trouble and of its end.
        keeper: keeps what is known on disk; None: nobody does.

    Raises:
        ConfigError: the names cannot be part of a key.
    """

    def __init__(
        self,
        store: Store,
        layouts: Sequence[Layout],
        *,
        namespace: str,
        service: str,
        hold: float,
        relist: float,
        outage: Outage,
        emit: Emit,
        rng: random.Random,
        clock: Callable[[], float] = loop_time,
        keeper: Keeper | None = None,
    ) -> None:
        self.service = service
        self.latest: Latest[Resolution] = Latest(Resolution())
        self._store = store
        self._keeper = keeper
        self._relist = relist
        self._outage = outage
        self._emit = emit
        self._rng = rng
        self._clock = clock
        self._unasked = keeper  # until the registry answered, or the keeper has been asked
        self._confirmed_at: float | None = None
        self._unheard_since: float | None = None
        self._sources = Sources(layouts, namespace, service)
        self._view = View(
            service,
            self._sources.decode,
            hold=hold,
            skip=lambda key, reason: emit(EntrySkipped(service, key, reason)),
            detail=lambda key: self._sources.of(key).detail,
        )
        self._known = self._sources.known(self._view.confirmed)
        self._config_key = layouts[0].config_key(namespace, service)
        self._published = Published(service, self._config_key or "", hold=hold, emit=emit)
        self._has_complained = False  # of a config that it may not read

    @property
    def registry(self) -> str:
        """Where the endpoints come from, for people."""
        return self._store.name

    @property
    def unconfirmed(self) -> int:
        """How many endpoints are held although the last list did not have them."""
        return self._view.unconfirmed

    def layouts(self) -> Mapping[str, str]:
        """The name of the layout that each endpoint comes from, by its id; empty if one is read."""
        several = len(self._sources.prefixes) > 1
        known = (several and self.latest.value.endpoints) or ()
        return {each.id: self._sources.of(self._view.key_of(each)).name for each in known}

    def age(self) -> float | None:
        """Seconds since the registry last confirmed the set, to any process; None if never."""
        return None if self._confirmed_at is None else self._clock() - self._confirmed_at

    async def run(self) -> NoReturn:
        """Follow the service, for ever."""
        delays = _BACKOFF.delays(self._rng)
        while True:
            began = self._clock()
            try:
                await self._follow()
                continue
            except Compacted:
                pass  # our revision is history: no trouble, the next list heals it
            except (RegistryError, ConfigError) as error:
                self._outage.begin(self, error)
                await self._recall()
                refused = isinstance(error, RegistryAuthError)
                self._publish(replace(self.latest.value, trouble=str(error), refused=refused))
                if self._unheard_since is None:
                    self._unheard_since = self._clock()
            if self._clock() - began > _BACKOFF.limit:
                delays = _BACKOFF.delays(self._rng)
            await anyio.sleep(next(delays))

    async def _follow(self) -> None:
        """List and watch until it is time to list again."""
        asked_at = self._clock()
        with bounded(_PATIENCE):
            listing, also = await self._list()
        now = self._clock()
        unheard = 0.0 if self._unheard_since is None else now - self._unheard_since
        own, others = self._divided(listing.items)
        listing = replace(listing, items=others)
        endpoints = self._view.relist(listing, now, unheard=unheard)
        if also is not None:
            alone = not self._view.any_confirmed
            self._published.relist(own, now, alone=alone, unheard=unheard)
        self._adopt(endpoints, asked_at)
        self._unheard_since = None
        period = self._relist * self._rng.uniform(1 - _JITTER, 1 + _JITTER)
        until = self._clock() + period
        with anyio.move_on_after(self._time_left(until)) as stream:
            watch = self._store.watch(*self._sources.prefixes, after=listing.revision, also=also)
            async with watch as batches:
                self._recover()
                async for batch in batches:
                    now = self._clock()
                    own, others = self._divided(batch.changes)
                    if own is not None:
                        self._published.apply(own)
                    self._adopt(self._view.apply(replace(batch, changes=others), now), now)
                    stream.deadline = anyio.current_time() + self._time_left(until)
        if not stream.cancelled_caught:
            raise RegistryUnavailable("the watch ended by itself")

    async def _list(self) -> tuple[Listing, str | None]:
        """What stands in the registry, and the key of the config, if we may read that.

        Rights to the endpoints alone are enough to follow them.
        """
        key, prefixes = self._config_key, self._sources.prefixes
        if key is not None:
            try:
                return await self._store.list(*prefixes, also=key), key
            except RegistryAuthError as error:
                listing = await self._store.list(*prefixes)
                if not self._has_complained:
                    self._has_complained = True
                    self._emit(ServiceConfigUnreadable(self.service, key, str(error)))
                return listing, None
        return await self._store.list(*prefixes), None

    def _divided(self, items: tuple[KeyValue, ...]) -> tuple[KeyValue | None, tuple[KeyValue, ...]]:
        """The entry of the service config, and the others."""
        own = next((item for item in items if item.key == self._config_key), None)
        return own, items if own is None else tuple(item for item in items if item is not own)

    def _time_left(self, until: float) -> float:
        """Seconds until the next list: at its regular time, or when a held endpoint may go."""
        alone = not self._view.any_confirmed
        expiries = self._view.next_expiry, self._published.next_expiry(alone=alone)
        dues = [expiry + _SLACK for expiry in expiries if expiry is not None]
        return min([until, *dues]) - self._clock()

    def _recover(self) -> None:
        self._outage.end(self)
        self._publish(replace(self.latest.value, trouble=None, refused=False))

    async def _recall(self) -> None:
        """The registry has not answered: take what an earlier process knew, until it does."""
        keeper, self._unasked = self._unasked, None
        if keeper is None:
            return
        if self._config_key is not None and (known := await keeper.recall(self._config_key)):
            self._published.recall(known.items, self._clock())
            self._publish(replace(self.latest.value, config=self._published.config))
        found = [await keeper.recall(prefix) for prefix in self._sources.prefixes]
        recalled = [kept for kept in found if kept is not None]
        now = self._clock()
        if endpoints := self._view.recall([item for kept in recalled for item in kept.items], now):
            age = max(kept.age for kept in recalled)
            self._confirmed_at = now - age
            self._publish(replace(self.latest.value, endpoints=endpoints, from_cache=True))
            self._emit(EndpointsFromCache(self.service, len(endpoints), round(age, 1)))

    def _adopt(self, endpoints: EndpointSet, confirmed_at: float) -> None:
        self._confirmed_at = confirmed_at
        self._unasked = None
        if self._keeper is not None:
            for known in self._known:
                self._keeper.note(known)
            if self._config_key is not None:
                self._keeper.note(self._published)
        before = self.latest.value.endpoints
        # Trouble ends with a stream, not with a list: a registry that refuses every watch is not
        # followed, however often it can be listed.
        config = self._published.config
        known_now = replace(self.latest.value, endpoints=endpoints, from_cache=False, config=config)
        self._publish(known_now)
        if endpoints is not before and (before is not None or len(endpoints)):
            self._emit(
                EndpointsChanged(
                    self.service, endpoints.revision, len(endpoints), endpoints.since(before)
                )
            )

    def _publish(self, resolution: Resolution) -> None:
        if resolution != self.latest.value:
            self.latest.set(resolution)
