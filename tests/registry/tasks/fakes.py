"""A bench for tasks of a registry: a store that can be made to misbehave, in virtual time."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable

import anyio

from meshkit.endpoint import Endpoint
from meshkit.errors import RegistryError, RegistryUnavailable
from meshkit.events import Event
from meshkit.registry.layouts import MeshkitLayout
from meshkit.registry.memory import MemoryStore
from meshkit.registry.outage import loop_time
from meshkit.registry.registry import Registry
from meshkit.registry.store import Batch, Grant, KeyValue, Listing
from meshkit.tasks import Supervisor


def down() -> RegistryError:
    return RegistryUnavailable("connect refused")


class FaultyStore:
    """A `MemoryStore` on the loop's clock, whose methods can fail or hang one by one.

    `faults` maps the name of a method to what happens instead: a function that makes the error, or
    `"hang"`, or `"late"`: done, but never answered. `"*"` is every method.
    """

    name = "fake://registry"
    peer = ("10.0.0.9", 2379)

    def __init__(self, inner: MemoryStore | None = None) -> None:
        self.inner = inner or MemoryStore(self.name, clock=loop_time)
        self.faults: dict[str, Callable[[], RegistryError] | str] = {}
        self.calls: list[tuple[float, str]] = []
        self.closed = 0

    def times(self, method: str) -> list[float]:
        return [when for when, name in self.calls if name == method]

    async def _meet(self, method: str):
        self.calls.append((loop_time(), method))
        fault = self.faults.get(method, self.faults.get("*"))
        if fault == "hang":
            await anyio.sleep_forever()
        if callable(fault):
            raise fault()
        return fault

    async def _do(self, method: str, *args, **options):
        fault = await self._meet(method)
        answer = await getattr(self.inner, method)(*args, **options)
        if fault == "late":
            await anyio.sleep_forever()
        return answer

    async def grant(self, ttl: float) -> Grant:
        return await self._do("grant", ttl)

    async def renew(self, lease: int) -> float:
        return await self._do("renew", lease)

    async def revoke(self, lease: int) -> None:
        return await self._do("revoke", lease)

    async def put(self, entries, **options) -> int:
        return await self._do("put", entries, **options)

    async def delete(self, keys, **options) -> int:
        return await self._do("delete", keys, **options)

    async def read(self, keys) -> tuple[KeyValue, ...]:
        return await self._do("read", keys)

    async def list(self, *prefixes: str, also: str | None = None) -> Listing:
        return await self._do("list", *prefixes, also=also)

    @contextlib.asynccontextmanager
    async def watch(
        self, *prefixes: str, after: int, also: str | None = None
    ) -> AsyncIterator[AsyncIterator[Batch]]:
        await self._meet("watch")
        if self.faults.get("stream") == "silent":
            yield silence()
            return
        if self.faults.get("stream") == "ends":
            yield nothing()
            return
        async with self.inner.watch(*prefixes, after=after, also=also) as batches:
            yield batches

    async def aclose(self) -> None:
        self.closed += 1
        await self._meet("aclose")

    # -- what happens to a registry

    def go_down(self, error: Callable[[], RegistryError] = down) -> None:
        """Refuse everything and break all watches."""
        self.faults["*"] = error
        self.break_watches()

    def come_back(self) -> None:
        self.faults.clear()

    def break_watches(self) -> None:
        self.inner.cut(down)
        asyncio.get_running_loop().call_later(0.01, self.inner.heal)

    async def keys(self, prefix: str = "") -> dict[str, int]:
        return {item.key: item.lease for item in (await self.inner.list(prefix)).items}


async def silence() -> AsyncIterator[Batch]:
    await anyio.sleep_forever()
    yield  # pragma: no cover


async def nothing() -> AsyncIterator[Batch]:
    return
    yield  # pragma: no cover


class Events(list[Event]):
    """All events so far."""

    def of(self, *kinds: type[Event]) -> list[Event]:
        return [event for event in self if isinstance(event, kinds)]

    def words(self) -> list[str]:
        return [event.name for event in self]


def endpoint(name: str, service: str = "hello", **fields) -> Endpoint:
    return Endpoint(service=service, id=name, address=f"{name}:50051", **fields)


class Bench:
    """A registry over a faulty store, its supervisor and all its events."""

    def __init__(self) -> None:
        self.store = FaultyStore()
        self.events = Events()
        self.supervisor = Supervisor(self.events.append)
        self.registry = self.make()

    def make(self, **options) -> Registry:
        """Another registry, as of another process, on the same store."""
        options = {"rng": random.Random(7), "layout": MeshkitLayout()} | options
        return Registry(
            options.pop("store", self.store),
            emit=self.events.append,
            supervisor=self.supervisor,
            **options,
        )

    async def write(self, *names: str, service: str = "hello", lease: int = 0) -> None:
        """Announce endpoints as somebody else."""
        pairs = (MeshkitLayout().encode("default", endpoint(name, service)) for name in names)
        await self.store.inner.put(dict(pairs), lease=lease)

    async def erase(self, *names: str, service: str = "hello") -> None:
        await self.store.inner.delete(key(name, service) for name in names)

    async def erase_unseen(self, *names: str) -> None:
        """Delete, and let no watch learn of it."""
        await self.erase(*names)
        self.store.break_watches()
        self.store.inner.compact(10**9)


def key(name: str, service: str = "hello") -> str:
    return f"meshkit/default/{service}/{name}"


def names(watch) -> list[str] | None:
    """The known endpoints by name; None before the first answer."""
    endpoints = watch.latest.value.endpoints
    return None if endpoints is None else [e.id for e in endpoints]
