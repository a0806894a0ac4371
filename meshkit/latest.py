"""The newest value, and "wait until it changes": the one primitive between layers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Generic, TypeVar, final

import anyio

__all__ = ["Latest"]

T = TypeVar("T")


@final
class Latest(Generic[T]):
    """The newest value, for readers who care only about the newest value.

    A slow reader skips what is out of date: a hundred `set` calls while it is busy are one
    wake-up. Belongs to one event loop. Idea: tokio's `watch`, finagle's `Var`.
    """

    __slots__ = ("_next", "value")

    def __init__(self, value: T) -> None:
        self.value = value
        self._next: anyio.Event | None = None

    def set(self, value: T) -> None:
        """Replace the value and wake every reader that waits."""
        self.value = value
        passed, self._next = self._next, None
        if passed is not None:
            passed.set()

    async def changed(self) -> None:
        """Return after the next `set`.

        Check `value` and call this without an await in between, and no change is missed.
        """
        if self._next is None:  # made on demand: a value may be created before its loop runs
            self._next = anyio.Event()
        await self._next.wait()

    async def values(self) -> AsyncIterator[T]:
        """The value now, and each newer one as the reader comes back for it."""
        while True:
            value = self.value
            yield value
            if self.value is value:
                await self.changed()
