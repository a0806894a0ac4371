"""Following the changes under a prefix: one stream for each watch."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import groupby
from operator import attrgetter
from typing import Any, Final, final

import anyio
from aetcd import rpc

from meshkit.errors import RegistryAuthError, RegistryUnavailable
from meshkit.registry.etcd.errors import is_refusal
from meshkit.registry.etcd.keys import decode, key_range
from meshkit.registry.etcd.member import Member, Rpc, Stream
from meshkit.registry.etcd.session import Session
from meshkit.registry.store import Batch, Compacted, KeyValue

__all__ = ["watching"]

_RANGE: Final[Rpc] = attrgetter("kv.Range")
_WATCH: Final[Rpc] = attrgetter("watch.Watch")
_PROBE: Final = rpc.WatchRequest(progress_request=rpc.WatchProgressRequest())


@asynccontextmanager
async def watching(
    session: Session, prefix: str, after: int, cluster: int | None
) -> AsyncGenerator[AsyncIterator[Batch]]:
    """All changes under `prefix` after revision `after`, as `Store.watch` promises.

    Args:
        session: the cluster to ask.
        prefix: what the keys start with.
        after: the revision of the listing that the changes are to continue.
        cluster: the id of the cluster that gave it; None if there was no listing.
    """
    opening = _Opening(session, prefix, after, cluster)
    try:
        stream = await session.persist(opening.attempt)
    except RegistryAuthError:
        # A stale token is "permission denied", too, to etcd before 3.5.8. A read is refused for
        # what it is, gets a new token, and raises if we really may not.
        start, end = key_range(prefix)
        await session.call(_RANGE, rpc.RangeRequest(key=start, range_end=end, limit=1))
        stream = await session.persist(opening.attempt)
    try:
        yield _Changes(session, stream, after)
    finally:
        await stream.aclose()


@final
class _Opening:
    """The request for a watch, and which answers to it may be believed."""

    def __init__(self, session: Session, prefix: str, after: int, cluster: int | None) -> None:
        self._session = session
        self._after = after
        self._cluster = cluster
        start, end = key_range(prefix)
        self._request = rpc.WatchRequest(
            create_request=rpc.WatchCreateRequest(
                key=start, range_end=end, start_revision=after + 1, fragment=True
            )
        )

    async def attempt(self, member: Member, left: float) -> Stream:
        """A stream on which the watch was created, within the `left` seconds.

        Raises:
            RegistryAuthError: we may not watch this.
            RegistryUnavailable: no answer, or none that makes sense.
            Compacted: the store is behind `after`, or another one.
        """
        async with AsyncExitStack() as stack:
            stream = member.open(_WATCH, await self._session.metadata(member))
            stack.push_async_callback(stream.aclose)
            await stream.write(self._request)
            answer = await stream.read(left)
            self._check(answer, member.endpoint)
            stack.pop_all()
        return stream

    def _check(self, answer: Any, endpoint: str) -> None:
        if answer is None or not answer.created:
            raise RegistryUnavailable(f"etcd at {endpoint}: it did not create the watch")
        if answer.canceled and is_refusal(answer.cancel_reason):
            raise RegistryAuthError(f"etcd at {endpoint}: watch refused: {answer.cancel_reason}")
        if answer.canceled:
            raise RegistryUnavailable(f"etcd at {endpoint}: no watch: {answer.cancel_reason}")
        if self._cluster not in (None, answer.header.cluster_id):
            raise Compacted(f"etcd at {endpoint}: it belongs to another cluster than before")
        # A watch from the future is accepted, and silent until the store has caught up: for ever,
        # after data were lost.
        if answer.header.revision < self._after:
            raise Compacted(
                f"etcd at {endpoint}: it is at revision {answer.header.revision}, "
                f"before {self._after}"
            )


@final
class _Changes:
    """The batches of a watch; a stream that falls silent has to prove that it lives."""

    def __init__(self, session: Session, stream: Stream, after: int) -> None:
        self._session = session
        self._stream = stream
        self._seen = after
        self._fragments: list[Any] = []
        self._ready: deque[Batch] = deque()

    def __aiter__(self) -> AsyncIterator[Batch]:
        return self

    async def __anext__(self) -> Batch:
        while not self._ready:
            try:
                self._take(await self._response())
            except RegistryUnavailable:
                await self._session.rotate(self._stream.member)
                raise
        return self._ready.popleft()

    async def _response(self) -> Any:
        options = self._session.options
        response = await self._stream.read(options.probe_interval)
        if response is None:
            with anyio.move_on_after(options.probe_timeout):
                await self._stream.write(_PROBE)
                response = await self._stream.read(options.probe_timeout)
        if response is None:
            silence = options.probe_interval + options.probe_timeout
            raise RegistryUnavailable(
                f"etcd at {self._stream.member.endpoint}: silent for {silence:g} s"
            )
        return response

    def _take(self, response: Any) -> None:
        """Adopt a response: events, a fragment of them, a sign of life, or the end."""
        endpoint = self._stream.member.endpoint
        if response.compact_revision:
            raise Compacted(f"etcd at {endpoint}: compacted up to {response.compact_revision}")
        if response.canceled:
            raise RegistryUnavailable(
                f"etcd at {endpoint}: it ended the watch: {response.cancel_reason}"
            )
        if response.header.revision < self._seen:
            raise Compacted(
                f"etcd at {endpoint}: it went back from revision {self._seen} "
                f"to {response.header.revision}"
            )
        self._fragments += response.events
        if response.fragment or not self._fragments:
            return
        events, self._fragments = self._fragments, []
        self._ready.extend(_batches(events))
        self._seen = self._ready[-1].revision


def _batches(events: Iterable[Any]) -> Iterator[Batch]:
    """One batch for each revision; a revision is never divided between two responses."""
    for revision, group in groupby(events, key=attrgetter("kv.mod_revision")):
        yield Batch(
            revision,
            tuple(
                KeyValue(decode(event.kv.key), None)
                if event.type == rpc.Event.DELETE
                else KeyValue(decode(event.kv.key), event.kv.value, event.kv.lease)
                for event in group
            ),
        )
