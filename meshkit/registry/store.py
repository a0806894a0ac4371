"""The seam to any key-value store with leases and revisions: all meshkit asks of etcd.

Keys are `str`, values are `bytes`. One revision counts all writes of a store; the keys of one
`put`, `delete` or `revoke` change in one revision. Every store passes the same contract suite,
`tests/registry/test_store_contract.py`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol, final

from meshkit.errors import RegistryError

__all__ = ["Batch", "Compacted", "Grant", "KeyValue", "LeaseGone", "Listing", "Store", "keys_of"]


class LeaseGone(RegistryError):  # noqa: N818 -- reads as the state it is
    """Raised when keys are put under a lease that has expired or was revoked."""


class Compacted(RegistryError):  # noqa: N818 -- reads as the state it is
    """Raised by a watch whose revision is history: list again. Internal."""


@final
@dataclass(frozen=True, slots=True)
class Grant:
    """A lease as granted: the store may have raised the `ttl` (seconds) that was asked for."""

    lease: int
    ttl: float


@final
@dataclass(frozen=True, slots=True)
class KeyValue:
    """A key as it stands; `lease` is 0 without one. In a `Batch`, `value` None means deleted."""

    key: str
    value: bytes | None
    lease: int = 0


@final
@dataclass(frozen=True, slots=True)
class Listing:
    """All keys that were asked for, at one revision."""

    revision: int
    items: tuple[KeyValue, ...]


@final
@dataclass(frozen=True, slots=True)
class Batch:
    """Changes that one revision made, all that are under one prefix; `value` None = deleted."""

    revision: int
    changes: tuple[KeyValue, ...]


def keys_of(prefixes: tuple[str, ...], also: str | None) -> Callable[[str], bool]:
    """Whether a key starts with one of `prefixes` or is `also`."""
    return lambda key: key.startswith(prefixes) or key == also


class Store(Protocol):
    """A key-value store with leases and revisions.

    Every method raises `RegistryUnavailable` when the store cannot be reached in time (no wait is
    unbounded) and `RegistryAuthError` when it refuses us. A store opens its files or connections
    at the first call, on the loop that is then running, and can be used again after `aclose`.
    """

    @property
    def name(self) -> str:
        """Where this is, for people: a URL without secrets."""
        ...

    @property
    def peer(self) -> tuple[str, int] | None:
        """Host and port of the store; None if it serves this machine only."""
        ...

    async def grant(self, ttl: float) -> Grant:
        """A new lease of about `ttl` seconds."""
        ...

    async def renew(self, lease: int) -> float:
        """Renew a lease; the seconds it has now, or 0.0 if it is gone (which is no error)."""
        ...

    async def revoke(self, lease: int) -> None:
        """End a lease and delete its keys in one revision; a lease that is gone is no error."""
        ...

    async def put(self, entries: Mapping[str, bytes], *, lease: int, if_held: bool = False) -> int:
        """Write all entries in one revision under `lease` (0: none); returns the revision.

        A key that was under another lease moves to this one; or, `if_held`, stays as it is: only
        keys that stand under `lease` already are written then. Raises `LeaseGone`.
        """
        ...

    async def delete(self, keys: Iterable[str], *, lease: int | None = None) -> int:
        """Delete keys in one revision; keys that are not there are no error.

        With a `lease` only those that stand under it: the others have another owner now.
        """
        ...

    async def read(self, keys: Iterable[str]) -> tuple[KeyValue, ...]:
        """Those of `keys` that are there; the answer may be a moment old."""
        ...

    async def list(self, *prefixes: str, also: str | None = None) -> Listing:
        """All keys under `prefixes`, and the key `also`, as of one moment; linearizable.

        The prefixes begin differently, or keys may come twice.
        """
        ...

    def watch(
        self, *prefixes: str, after: int, also: str | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[Batch]]:
        """Changes under `prefixes` of all revisions > `after`, in order, until the block ends.

        Those of each prefix, and of the key `also`, are in order; what one revision changed under
        several of them may come in several batches, and others between them.
        The iterator never ends by itself: it raises `RegistryUnavailable` when the stream broke,
        was refused, or fell silent beyond proof of life; `Compacted` when `after` is history or the
        store went back to before it. Whoever reads lists again.
        """
        ...

    async def aclose(self) -> None:
        """Close files, connections and tasks; leases are left to expire."""
        ...
