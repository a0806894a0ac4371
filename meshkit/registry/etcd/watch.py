"""Following the changes of keys: all watches of a store share one stream."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from itertools import count
from operator import attrgetter
from typing import Final, final

from aetcd import rpc

from meshkit.errors import RegistryAuthError
from meshkit.latest import Latest
from meshkit.registry.etcd.changes import Batches, Changes
from meshkit.registry.etcd.member import Member, Metadata, Rpc
from meshkit.registry.etcd.session import Session
from meshkit.registry.etcd.watch_stream import WatchStream
from meshkit.registry.store import Batch

__all__ = ["Watches"]

_RANGE: Final[Rpc] = attrgetter("kv.Range")


@final
class Watches:
    """All watches of a store, on one stream to the member in use.

    A stream is opened by the first watch and closed after the last one. When the session moves to
    another member, or gets another token, new watches open a new stream; the old one ends when the
    last of its watches has left, which each does to list again from time to time.

    Args:
        session: the cluster to ask.
        rng: spreads the probes.
    """

    def __init__(self, session: Session, rng: random.Random) -> None:
        self._session = session
        self._rng = rng
        self._ids = count(1)
        self._streams: set[WatchStream] = set()

    @asynccontextmanager
    async def watching(
        self, ranges: Sequence[tuple[bytes, bytes]], after: int, cluster: int | None
    ) -> AsyncGenerator[AsyncIterator[Batch]]:
        """All changes of keys in `ranges` after revision `after`, as `Store.watch` promises.

        Args:
            ranges: of keys; each is a watch of its own to etcd.
            after: the revision of the listing that the changes are to continue.
            cluster: the id of the cluster that gave it; None if there was no listing.
        """

        async def attempt(member: Member, _left: float) -> tuple[Batches, AsyncExitStack]:
            return await self._session.authorized(member, partial(join, member))

        async def join(member: Member, metadata: Metadata) -> tuple[Batches, AsyncExitStack]:
            stream = self._stream(member, metadata)
            news: Latest[None] = Latest(None)
            where = member.endpoint
            watches = [
                Changes(next(self._ids), where, keys, after=after, cluster=cluster, news=news)
                for keys in ranges
            ]
            async with AsyncExitStack() as stack:
                stack.push_async_callback(self._leave, stream, watches)
                for changes in watches:
                    stream.add(changes)
                for changes in watches:
                    await changes.created()
                return Batches(watches, news), stack.pop_all()

        try:
            batches, joined = await self._session.persist(attempt)
        except RegistryAuthError:
            # A stale token is "permission denied", too, to etcd before 3.5.8. A read is refused for
            # what it is, gets a new token, and raises if we really may not.
            for start, end in ranges:
                read = rpc.RangeRequest(key=start, range_end=end, limit=1)
                await self._session.call(_RANGE, read)
            batches, joined = await self._session.persist(attempt)
        async with joined:
            yield batches

    def _stream(self, member: Member, metadata: Metadata) -> WatchStream:
        for stream in self._streams:
            if stream.serves(member, metadata):
                return stream
        opened = WatchStream(self._session, member, metadata, self._rng)
        self._streams.add(opened)
        return opened

    async def _leave(self, stream: WatchStream, watches: Sequence[Changes]) -> None:
        for changes in watches:
            stream.remove(changes)
        if stream.idle:
            self._streams.discard(stream)
            await stream.aclose()

    async def aclose(self) -> None:
        """End all watches and their streams; usable again afterwards."""
        streams, self._streams = self._streams, set()
        for stream in streams:
            await stream.aclose()
