"""Single watches among the many of a stream: what etcd says of them, and what may be believed."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any, Final, final

import grpc
from aetcd import rpc

from meshkit.errors import RegistryError, RegistryUnavailable
from meshkit.latest import Latest
from meshkit.registry.etcd.errors import meaning
from meshkit.registry.etcd.keys import decode
from meshkit.registry.store import Batch, Compacted, KeyValue

__all__ = ["Batches", "Changes"]

_BACKLOG: Final = 10_000
"""Batches that may wait for a reader; to list again costs less than to read more of them."""


@final
class Changes:
    """What a watch is told, in order, and why it will be told no more.

    Args:
        watch_id: its number, unlike that of any other watch on the stream, and not 0: etcd before
            3.5.8 calls a refused watch 0, and then forgets the true one of that number.
        endpoint: whom we ask, for error texts.
        keys: first and end of them, as etcd writes a range.
        after: the revision of the listing that the changes are to continue.
        cluster: the id of the cluster that gave it; None if there was no listing.
        news: set whenever something is new.
    """

    def __init__(
        self,
        watch_id: int,
        endpoint: str,
        keys: tuple[bytes, bytes],
        *,
        after: int,
        cluster: int | None,
        news: Latest[None],
    ) -> None:
        self.id = watch_id
        start, end = keys
        self.request = rpc.WatchRequest(
            create_request=rpc.WatchCreateRequest(
                watch_id=watch_id, key=start, range_end=end, start_revision=after + 1, fragment=True
            )
        )
        self._endpoint = endpoint
        self._cluster = cluster
        self._seen = after
        self._created = False
        self._fragments: list[Any] = []
        self._ready: deque[Batch] = deque()
        # Kind and text, not an error: one that was raised refers to frames that refer to us.
        self._end: tuple[type[RegistryError], str] | None = None
        self._news = news

    async def created(self) -> None:
        """Return when etcd has created the watch.

        Raises:
            RegistryAuthError: we may not watch this.
            RegistryUnavailable: etcd would not, or the stream ended.
            Compacted: the store is behind `after`, or another one.
        """
        while not self._created:
            self._check_end()
            await self._news.changed()

    def next_ready(self) -> Batch | None:
        """The next batch, if it has come.

        Raises:
            RegistryError: there will be no more.
        """
        if self._ready:
            return self._ready.popleft()
        self._check_end()
        return None

    def _check_end(self) -> None:
        if self._end is not None:
            kind, text = self._end
            raise kind(text)

    def end(self, error: RegistryError) -> None:
        """Let the reader know, after what has come so far; the first reason stands."""
        if self._end is None:
            self._end = type(error), str(error)
            self._news.set(None)

    def take(self, response: Any) -> None:
        """Adopt a response: the creation, events, a fragment of them, or the end.

        Raises:
            RegistryError: the watch has ended.
        """
        if response.created:
            self._check(response)
            self._created = True
        else:
            self._read(response)
        self._news.set(None)

    def _check(self, answer: Any) -> None:
        if answer.canceled:
            kind = meaning(grpc.StatusCode.UNKNOWN, answer.cancel_reason)
            raise kind(f"{self._where}: watch refused: {answer.cancel_reason}")
        if self._cluster not in (None, answer.header.cluster_id):
            raise Compacted(f"{self._where}: it belongs to another cluster than before")
        # A watch from the future is accepted, and silent until the store has caught up: for ever,
        # after data were lost.
        if answer.header.revision < self._seen:
            raise Compacted(
                f"{self._where}: it is at revision {answer.header.revision}, before {self._seen}"
            )

    def _read(self, response: Any) -> None:
        if response.compact_revision:
            raise Compacted(f"{self._where}: compacted up to {response.compact_revision}")
        if response.canceled:
            raise RegistryUnavailable(f"{self._where}: it ended the watch")
        if response.header.revision < self._seen:
            raise Compacted(
                f"{self._where}: it went back from revision {self._seen} "
                f"to {response.header.revision}"
            )
        if len(self._ready) >= _BACKLOG:
            raise RegistryUnavailable(f"{self._where}: nobody reads the watch")
        self._fragments += response.events
        if response.fragment or not self._fragments:
            return
        events, self._fragments = self._fragments, []
        self._ready.extend(_batches(events))
        self._seen = self._ready[-1].revision

    @property
    def _where(self) -> str:
        return f"etcd at {self._endpoint}"


@final
class Batches:
    """The batches of one or more watches, as they come; each watch's are in order.

    When there will be no more of one of them, the reason is raised.
    """

    def __init__(self, watches: Sequence[Changes], news: Latest[None]) -> None:
        self._watches = watches
        self._news = news

    def __aiter__(self) -> AsyncIterator[Batch]:
        return self

    async def __anext__(self) -> Batch:
        while True:
            for changes in self._watches:
                if (batch := changes.next_ready()) is not None:
                    return batch
            await self._news.changed()


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
