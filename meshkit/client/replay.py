"""Requests of a streaming call that can be read from their beginning again, while they are kept."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from typing import Any, Self, final

from meshkit.latest import Latest

__all__ = ["Replay", "Written"]


async def _as_async(source: Iterable[Any]) -> AsyncIterator[Any]:
    for message in source:
        yield message


def _nothing(_: Any) -> int:
    return 0


@final
class Replay:
    """The requests of one streaming call, whichever connections they end up on.

    A call that finds no connection has taken at most one request from its iterator and waits to
    send it: what was not sent is always kept. Each attempt is a reader of its own, and asks for a
    request when it has sent the one before.

    Args:
        source: the caller's requests.
        room: bytes of sent requests to keep, for a call that may be tried again after them.
            Negative: none, not even an empty one.
        size: of a request, in bytes.

    Attributes:
        is_spent: whether something was sent that is not kept, so that there is no way back.
    """

    __slots__ = (
        "_dropped",
        "_end",
        "_kept",
        "_latest",
        "_lock",
        "_room",
        "_sent",
        "_size",
        "_source",
        "is_spent",
    )

    def __init__(
        self,
        source: AsyncIterable[Any] | Iterable[Any],
        room: int = -1,
        size: Callable[[Any], int] = _nothing,
    ) -> None:
        iterable = source if isinstance(source, AsyncIterable) else _as_async(source)
        self._source = aiter(iterable)
        self._room = room
        self._size = size
        self._kept: deque[Any] = deque()
        self._dropped = 0  # requests before the first one that is kept
        self._sent = 0
        self._end: Exception | None = None  # what the source ended with
        self._latest: object = None  # the reader that began last
        # Two attempts may overlap here: the first one's reader still waits for a request.
        self._lock = asyncio.Lock()
        self.is_spent = False

    def commit(self) -> None:
        """There will be no further attempt: keep nothing that was sent."""
        self._room = -1
        if self._sent:
            self._forget()

    async def __aiter__(self) -> AsyncIterator[Any]:
        here = 0
        self._latest = this = object()
        while True:
            if here >= self._dropped + len(self._kept):
                if self.is_spent and self._latest is this:
                    # No way back, and nobody after us: what is left goes straight through, the
                    # shorter way for many messages; unless an earlier reader has got at it.
                    async with self._lock:
                        if self._end is None and here >= self._dropped + len(self._kept):
                            async for message in self._source:
                                yield message
                            return
                await self._pull(here)
            if not self._dropped <= here < self._dropped + len(self._kept):
                return  # at the end; or the reader of an attempt that others have overtaken
            message = self._kept[here - self._dropped]
            here += 1
            yield message
            if here > self._sent:
                self._note_sent(here, message)

    async def _pull(self, here: int) -> None:
        """Have request number `here`, if there is one more."""
        async with self._lock:
            if self._end is None and here >= self._dropped + len(self._kept):
                try:
                    self._kept.append(await anext(self._source))
                except Exception as end:  # noqa: BLE001 -- of the caller's; each reader meets it
                    self._end = end
            if self._end is not None and not isinstance(self._end, StopAsyncIteration):
                raise self._end

    def _note_sent(self, count: int, message: Any) -> None:
        self._sent = count
        if self._room >= 0:
            self._room -= self._size(message)
        if self._room < 0:
            self._forget()

    def _forget(self) -> None:
        self.is_spent = True
        while self._dropped < self._sent:
            self._kept.popleft()
            self._dropped += 1


@final
class Written:
    """Requests that are written one by one, for readers who take them when they can send them.

    Attributes:
        is_ended: whether no request will follow.
    """

    __slots__ = ("_changes", "_closed", "_given", "_sent", "_waiting", "is_ended")

    def __init__(self) -> None:
        self._waiting: deque[Any] = deque()
        self._given = self._sent = 0
        self._changes = Latest(None)
        self._closed = False
        self.is_ended = False

    async def put(self, message: Any) -> bool:
        """Return when `message` was sent; False if the call has ended before."""
        self._waiting.append(message)
        turn = self._given + len(self._waiting)
        self._changes.set(None)
        while self._sent < turn and not self._closed:
            await self._changes.changed()
        return self._sent >= turn

    def end(self) -> None:
        """No request will follow."""
        self.is_ended = True
        self._changes.set(None)

    def close(self) -> None:
        """Nobody will read any more."""
        self._closed = True
        self._changes.set(None)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        self._sent = self._given  # it is asked for more when all that was given has been sent
        self._changes.set(None)
        while not self._waiting:
            if self.is_ended:
                raise StopAsyncIteration
            await self._changes.changed()
        self._given += 1
        return self._waiting.popleft()
