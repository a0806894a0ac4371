"""One outage, told once: however many tasks meet it, its beginning and its end are one event each.

A registry is followed by several parties, its watchers and its registrar. The outage begins with
the first that is in trouble and ends when none is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import final

import anyio

from meshkit.errors import RegistryAuthError, RegistryUnavailable
from meshkit.events import Emit, RegistryConnected, RegistryDisconnected, RegistryRefused

__all__ = ["Outage", "bounded", "loop_time"]


def loop_time() -> float:
    """The clock of the running loop, in seconds."""
    return asyncio.get_running_loop().time()


@contextmanager
def bounded(seconds: float) -> Iterator[None]:
    """Make an answer that does not come within `seconds` a `RegistryUnavailable`."""
    try:
        with anyio.fail_after(seconds):
            yield
    except TimeoutError as error:
        raise RegistryUnavailable(f"no answer within {seconds:.3g} s") from error


@final
class Outage:
    """Who cannot follow the registry now, since when, and why."""

    def __init__(self, registry: str, emit: Emit, clock: Callable[[], float]) -> None:
        self._registry = registry
        self._emit = emit
        self._clock = clock
        self._troubled: set[object] = set()
        self._refused = False
        self.since: float | None = None
        self.reason: str | None = None

    def begin(self, party: object, error: Exception) -> None:
        """`party` met `error`; it is in trouble until `end`."""
        self.reason = str(error)
        self._troubled.add(party)
        if self.since is None:
            self.since = self._clock()
            self._emit(RegistryDisconnected(self._registry, self.reason))
        if isinstance(error, RegistryAuthError) and not self._refused:
            self._refused = True
            self._emit(RegistryRefused(self._registry, self.reason))

    def end(self, party: object) -> None:
        """`party` follows the registry again."""
        if party in self._troubled and (since := self._leave(party)) is not None:
            self._emit(RegistryConnected(self._registry, self._clock() - since))

    def leave(self, party: object) -> None:
        """`party` does not try any more; without anybody who tries there is no outage."""
        self._leave(party)

    def _leave(self, party: object) -> float | None:
        """Take `party` out; if it was the last one, since when the outage lasted."""
        self._troubled.discard(party)
        if self._troubled:
            return None
        since, self.since, self.reason, self._refused = self.since, None, None, False
        return since
