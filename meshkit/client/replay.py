"""A request iterator that can be read from its beginning again while nothing of it was sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from typing import Any, Final, final

__all__ = ["Replay"]

_NOTHING: Final = object()
_END: Final = object()


async def _as_async(source: Iterable[Any]) -> AsyncIterator[Any]:
    for message in source:
        yield message


@final
class Replay:
    """The requests of one streaming call, whichever connection they end up on.

    A call that finds no connection has taken at most one request from its iterator and waits to
    send it: that one is kept. `sent` says when it has gone out; from then on there is no way back.
    """

    __slots__ = ("_first", "_lock", "_source", "sent")

    def __init__(self, source: AsyncIterable[Any] | Iterable[Any]) -> None:
        iterable = source if isinstance(source, AsyncIterable) else _as_async(source)
        self._source = aiter(iterable)
        self._first: Any = _NOTHING
        # Two attempts may overlap here: the first one's reader still waits for the first request.
        self._lock = asyncio.Lock()
        self.sent = False

    async def __aiter__(self) -> AsyncIterator[Any]:
        async with self._lock:
            if self._first is _NOTHING:
                self._first = await anext(self._source, _END)
        if self._first is not _END:
            yield self._first
            self.sent = True  # grpc asks for the second request when it has written the first
            self._first = _END
            async for message in self._source:
                yield message
