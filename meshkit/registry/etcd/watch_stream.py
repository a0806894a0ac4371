"""A stream that carries many watches, and asks for a sign of life when it is silent."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from contextlib import suppress
from operator import attrgetter
from typing import Any, Final, NoReturn, final

import anyio
from aetcd import rpc

from meshkit.errors import RegistryError, RegistryUnavailable
from meshkit.registry.etcd.changes import Changes
from meshkit.registry.etcd.member import Member, Metadata, Rpc
from meshkit.registry.etcd.session import Session

__all__ = ["WatchStream"]

_RANGE: Final[Rpc] = attrgetter("kv.Range")
_WATCH: Final[Rpc] = attrgetter("watch.Watch")

_JITTER: Final = 0.2
"""Of the interval between probes: members are not asked by all at once."""

_LAG: Final = 0.1
"""How late a loop that is well may be to learn of a timeout, in seconds."""

_PATIENCE: Final = 5.0
"""How long the end of a stream may take, in seconds; more than its parts are allowed."""


@final
class WatchStream:
    """Watches on one member, as long as it answers; its end is the end of them all.

    What is sent goes through a queue to one task: a write that is cancelled ends a stream, and
    that would be the stream of everybody. What comes is read by another one.

    A silent stream is probed by a read on the same connection, not by asking for the progress of
    its watches: etcd from 3.5.22 and 3.6.2 on gives no answer to that while any of them waits for
    its first revision (etcd#20229), and a member that lost its cluster goes on answering. The read
    is linearizable: a member answers when it has caught up with the majority, or not at all. So
    one that is cut off, or whose disk hangs, is left although it seems well.

    Args:
        session: told to leave a member that fails.
        member: whom to ask.
        metadata: with the token whose rights decide what may be watched here.
        rng: spreads the probes.
    """

    def __init__(
        self, session: Session, member: Member, metadata: Metadata, rng: random.Random
    ) -> None:
        self.member = member
        self._session = session
        self._metadata = metadata
        self._rng = rng
        self._stream = member.open(_WATCH, metadata)
        self._outbox: asyncio.Queue[Any] = asyncio.Queue()
        self._asked: deque[int] = deque()
        self._watches: dict[int, Changes] = {}
        self._ended = False
        self._clock = asyncio.get_running_loop().time
        self._heard_at = self._clock()
        # Scopes, since a task that ends cancelled remembers where it was, and with that the call.
        self._receiving, self._sending = anyio.CancelScope(), anyio.CancelScope()
        # No block owns this task, since watches come and go as they like: `aclose` waits for it.
        self._running = asyncio.ensure_future(self._run())

    def serves(self, member: Member, metadata: Metadata) -> bool:
        """Whether a new watch at `member` with the rights of `metadata` may be one of these."""
        return not self._ended and self.member is member and self._metadata == metadata

    @property
    def idle(self) -> bool:
        """Whether nobody watches."""
        return not self._watches

    def add(self, changes: Changes) -> None:
        """Ask for a watch; `changes` learns what became of it."""
        self._watches[changes.id] = changes
        self._asked.append(changes.id)
        self._outbox.put_nowait(changes.request)

    def remove(self, changes: Changes) -> None:
        """End a watch, created or not; twice is fine."""
        changes.end(self._closed())
        if self._watches.pop(changes.id, None) is not None:
            # etcd obeys in order. What it sends until then belongs to nobody and is dropped.
            cancel = rpc.WatchCancelRequest(watch_id=changes.id)
            self._outbox.put_nowait(rpc.WatchRequest(cancel_request=cancel))

    async def aclose(self) -> None:
        """End all watches and the stream; bounded, and twice is fine."""
        self._end(self._closed())
        self._receiving.cancel()
        with anyio.move_on_after(_PATIENCE, shield=True):
            await asyncio.wait({self._running})

    def _closed(self) -> RegistryUnavailable:
        return RegistryUnavailable(f"etcd at {self.member.endpoint}: the watch was closed")

    def _end(self, error: RegistryError) -> None:
        self._ended = True
        for changes in self._watches.values():
            changes.end(error)
        self._watches.clear()

    async def _run(self) -> None:
        sender = asyncio.ensure_future(self._send())
        try:
            with self._receiving:
                await self._receive()
        except RegistryError as error:
            await self._session.rotate(self.member)  # before the watches ask again
            self._end(error)
        finally:
            self._end(self._closed())
            self._sending.cancel()
            await asyncio.wait({sender})
            await self._stream.aclose()

    async def _send(self) -> None:
        with suppress(RegistryError), self._sending:  # why it ended, `_receive` will learn
            while True:
                await self._stream.write(await self._outbox.get())

    async def _receive(self) -> NoReturn:
        interval = self._session.options.probe_interval
        while True:
            silence = interval * self._rng.uniform(1 - _JITTER, 1 + _JITTER)
            self._heard_at = self._clock()
            while (left := self._heard_at + silence - self._clock()) > 0:
                await self._stream.listen(self._dispatch, left)
            await self._probe(silence)

    async def _probe(self, silence: float) -> None:
        timeout = self._session.options.probe_timeout
        while self._watches:
            key = next(iter(self._watches.values())).request.create_request.key  # we may read it
            began = self._clock()
            try:
                await self.member.call(_RANGE, rpc.RangeRequest(key=key), self._metadata, timeout)
            except RegistryUnavailable as error:
                if self._clock() - began < timeout + _LAG:
                    raise RegistryUnavailable(f"silent for {silence:.1f} s; {error}") from error
                continue  # our loop was held up: who could not listen must not say nobody spoke
            except RegistryError:
                pass  # whoever refuses lives
            return

    def _dispatch(self, response: Any) -> None:
        """Hand a response to the watch it is about, if that is still wanted."""
        self._heard_at = self._clock()
        watch_id = self._asked_for(response) if response.created else response.watch_id
        changes = self._watches.get(watch_id)
        if changes is not None:
            try:
                changes.take(response)
            except RegistryError as error:
                changes.end(error)
                self.remove(changes)

    def _asked_for(self, answer: Any) -> int:
        """The watch that an answer is about: the one that was asked for first, as etcd keeps order.

        A refusal cannot tell, its number is 0 or -1.

        Raises:
            RegistryUnavailable: it is about none, and nothing on this stream can be relied on.
        """
        watch_id = self._asked.popleft() if self._asked else None
        if watch_id is None or (answer.watch_id != watch_id and not answer.canceled):
            raise RegistryUnavailable(
                f"etcd at {self.member.endpoint}: it created a watch that nobody asked for"
            )
        return watch_id
