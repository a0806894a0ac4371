"""Keeps the cache on disk as new as what watchers know, a moment later and in a thread.

Nothing is ever kept over something: a registry that was wiped must not empty the cache, too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import NoReturn, Protocol, TypeVar, TypeVarTuple, final

import anyio
import anyio.to_thread

from meshkit.endpoint import Endpoint
from meshkit.errors import ConfigError
from meshkit.events import CacheUnusable, Emit
from meshkit.latest import Latest
from meshkit.registry.cache import Cache, CacheError, Recalled

__all__ = ["Keeper", "Known"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Known(Protocol):
    """A service's endpoints, as far as they are confirmed."""

    @property
    def prefix(self) -> str:
        """What their keys start with."""
        ...

    def confirmed(self) -> Mapping[str, Endpoint]:
        """The endpoints that the registry confirms, by key."""
        ...


@final
class Keeper:
    """Writes what is known to a cache, as long as `run` runs, and reads it.

    Args:
        cache: where it is kept.
        encode: how an endpoint is written.
        emit: told what cannot be used, once for each text.
        delay: seconds for which changes are collected.
    """

    def __init__(
        self,
        cache: Cache,
        encode: Callable[[Endpoint], tuple[str, bytes]],
        emit: Emit,
        *,
        delay: float = 5.0,
    ) -> None:
        self._cache = cache
        self._encode = encode
        self._emit = emit
        self._delay = delay
        self._due: Latest[dict[str, Known]] = Latest({})
        self._kept: dict[str, Mapping[str, Endpoint]] = {}
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
            if endpoints := known.confirmed():
                await self._keep(prefix, endpoints)

    async def recall(self, prefix: str) -> Recalled | None:
        """What is kept for `prefix`; None if there is nothing that can be used."""
        return await self._try(self._cache.load, prefix)

    async def _keep(self, prefix: str, endpoints: Mapping[str, Endpoint]) -> None:
        if self._kept.pop(prefix, None) == endpoints and await self._try(self._cache.touch, prefix):
            self._kept[prefix] = endpoints
            return
        if await self._try(partial(self._save, prefix), endpoints):
            self._kept[prefix] = endpoints

    def _save(self, prefix: str, endpoints: Mapping[str, Endpoint]) -> bool:
        self._cache.save(prefix, dict(map(self._encode, endpoints.values())))
        return True

    async def _try(self, function: Callable[[*Ts], T], *args: *Ts) -> T | None:
        try:
            return await anyio.to_thread.run_sync(function, *args, abandon_on_cancel=True)
        except (CacheError, ConfigError) as error:
            if str(error) not in self._told:
                self._told.add(str(error))
                self._emit(CacheUnusable(str(error)))
            return None
