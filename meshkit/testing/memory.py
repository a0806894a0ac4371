"""The registry behind `memory://name`, for the test that wants to hurt it."""

from __future__ import annotations

import time
from collections.abc import Callable

from meshkit.registry.memory import MemoryStore

__all__ = ["memory_registry"]

_SCHEME = "memory://"


def memory_registry(name: str, *, clock: Callable[[], float] = time.monotonic) -> MemoryStore:
    """The registry that `Mesh("memory://name")` uses in this process, for as long as it is held.

    Args:
        name: with or without `memory://`, but without parameters.
        clock: by which its leases expire, in seconds; only for a registry that is new.
    """
    return MemoryStore.shared(_SCHEME + name.removeprefix(_SCHEME), clock=clock)
