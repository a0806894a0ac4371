"""Keeps the cache on disk as new as what watchers know, a moment later and in a thread.

Nothing is ever kept over something: a registry that was wiped must not empty the cache, too. Only
what is known to be gone is forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NoReturn, Protocol, TypeVar, TypeVarTuple, final

import anyio
import anyio.to_thread

from meshkit.errors import ConfigError
from meshkit.events import CacheUnusable, Emit
from meshkit.latest import Latest
from meshkit.registry.cache import Cache, CacheError, Recalled

__all__ = ["Keeper", "Known"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Known(Protocol):
    """What is known of a service, as far as it is confirmed."""

    @property
    def prefix(self) -> str:
        """What its keys start with."""
        ...

    def confirmed(self) -> Mapping[str, Any] | None:
        """What the registry confirms, by key; None: it confirms that there is nothing."""
        ...

    def encode(self, thing: Any, /) -> tuple[str, bytes]:
        """Key and value of one of those, each in a line."""
        ...


@final
class Keeper:
    """Writes what is known to a cache, as long as `run` runs, and reads it.

    Args:
        cache: where it is kept.
        emit: told what cannot be used, once for each text.
        delay: seconds for which changes are collected.
    """

    def __init__(
        self,
        cache: Cache,
        emit: Emit,
        *,
        delay: float = 5.0,
    ) -> None:
        self._cache = cache
        self._emit = emit
        self._delay = delay
        self._due: Latest[dict[str, Known]] = Latest({})
        self._kept: dict[str, Mapping[str, Any] | None] = {}
        self._told: set[str] = set()

    def note(self, known: Known) -> None:
        """The registry has confirmed or changed `known`."""
        self._due.value[known.prefix] = known
        self._due.set(self._due.value)

    async def run(self) -> NoReturn:
        """Write what changes, for ever."""
        while True:
            while not self._due.value:
                await self._due.changed()
            await anyio.sleep(self._delay)
            await self.flush()

    async def flush(self) -> None:
        """Write what changed until now."""
        while self._due.value:
            prefix, known = self._due.value.popitem()
            things = known.confirmed()
            if things is None:
                await self._forget(prefix)
            elif things:
                await self._keep(known, things)

    async def recall(self, prefix: str) -> Recalled | None:
        """What is kept for `prefix`; None if there is nothing that can be used."""
        return await self._try(self._cache.load, prefix)

    async def _keep(self, known: Known, things: Mapping[str, Any]) -> None:
        prefix = known.prefix
        is_kept = self._kept.pop(prefix, None) == things
        if is_kept:
            is_kept = bool(await self._try(self._cache.touch, prefix))
        if is_kept or await self._try(self._save, known, things):
            self._kept[prefix] = things

    async def _forget(self, prefix: str) -> None:
        if self._kept.get(prefix, {}) is not None and await self._try(self._cache.forget, prefix):
            self._kept[prefix] = None

    def _save(self, known: Known, things: Mapping[str, Any]) -> bool:
        self._cache.save(known.prefix, dict(map(known.encode, things.values())))
        return True

    async def _try(self, function: Callable[[*Ts], T], *args: *Ts) -> T | None:
        try:
            return await anyio.to_thread.run_sync(function, *args, abandon_on_cancel=True)
        except (CacheError, ConfigError) as error:
            if str(error) not in self._told:
                self._told.add(str(error))
                self._emit(CacheUnusable(str(error)))
            return None
