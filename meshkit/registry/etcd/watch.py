"""Following the changes under prefixes: all watches of a store share one stream."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from itertools import count
from operator import attrgetter
from typing import Final, final

from aetcd import rpc

from meshkit.errors import RegistryAuthError
from meshkit.registry.etcd.changes import Changes
from meshkit.registry.etcd.keys import key_range
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
        self, prefix: str, after: int, cluster: int | None
    ) -> AsyncGenerator[AsyncIterator[Batch]]:
        """All changes under `prefix` after revision `after`, as `Store.watch` promises.

        Args:
            prefix: what the keys start with.
            after: the revision of the listing that the changes are to continue.
            cluster: the id of the cluster that gave it; None if there was no listing.
        """

        async def attempt(member: Member, _left: float) -> tuple[Changes, AsyncExitStack]:
            return await self._session.authorized(member, partial(join, member))

        async def join(member: Member, metadata: Metadata) -> tuple[Changes, AsyncExitStack]:
            stream = self._stream(member, metadata)
            changes = Changes(
                next(self._ids), member.endpoint, prefix, after=after, cluster=cluster
            )
            async with AsyncExitStack() as stack:
                stack.push_async_callback(self._leave, stream, changes)
                stream.add(changes)
                await changes.created()
                return changes, stack.pop_all()

        try:
            changes, joined = await self._session.persist(attempt)
        except RegistryAuthError:
            # A stale token is "permission denied", too, to etcd before 3.5.8. A read is refused for
            # what it is, gets a new token, and raises if we really may not.
            start, end = key_range(prefix)
            await self._session.call(_RANGE, rpc.RangeRequest(key=start, range_end=end, limit=1))
            changes, joined = await self._session.persist(attempt)
        async with joined:
            yield changes

    def _stream(self, member: Member, metadata: Metadata) -> WatchStream:
        for stream in self._streams:
            if stream.serves(member, metadata):
                return stream
        opened = WatchStream(self._session, member, metadata, self._rng)
        self._streams.add(opened)
        return opened

    async def _leave(self, stream: WatchStream, changes: Changes) -> None:
        stream.remove(changes)
        if stream.idle:
            self._streams.discard(stream)
            await stream.aclose()

    async def aclose(self) -> None:
        """End all watches and their streams; usable again afterwards."""
        streams, self._streams = self._streams, set()
        for stream in streams:
            await stream.aclose()
