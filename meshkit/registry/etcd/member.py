"""A connection to one member of an etcd cluster, and the streams on it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from operator import attrgetter
from typing import Any, Final, TypeAlias, TypeVar, final

import anyio
import grpc.aio
from aetcd import rpc

from meshkit.errors import RegistryError, RegistryUnavailable
from meshkit.registry.etcd.errors import mapped

__all__ = ["HAS_LEADER", "Member", "Metadata", "Rpc", "Stream"]

T = TypeVar("T")
Metadata: TypeAlias = tuple[tuple[str, str], ...]
Rpc: TypeAlias = Callable[["Member"], Callable[..., Any]]

_STATUS: Final[Rpc] = attrgetter("maintenance.Status")

HAS_LEADER: Final = ("hasleader", "true")
"""Lets a member that lost its cluster refuse at once, and end its streams (etcd API reference)."""

_PATIENCE: Final = 1.0
"""How long a cancelled RPC may take to end, in seconds; locally that is a matter of one turn."""


@final
class Member:
    """A channel to one member; once retired it is closed when its last user left.

    Closing a channel cancels the calls that still run on it, so no user may lose it to another.
    """

    def __init__(self, endpoint: str, channel: grpc.aio.Channel) -> None:
        self.endpoint = endpoint
        self.auth = rpc.AuthStub(channel)
        self.kv = rpc.KVStub(channel)
        self.lease = rpc.LeaseStub(channel)
        self.maintenance = rpc.MaintenanceStub(channel)
        self.watch = rpc.WatchStub(channel)
        self._channel = channel
        self._users = 0
        self._retired = False
        self._closed = False

    @property
    def in_use(self) -> bool:
        """Whether anybody still uses it."""
        return self._users > 0

    def enter(self) -> None:
        """Become a user; every `enter` needs its `leave`."""
        self._users += 1

    async def leave(self) -> None:
        """Be no user any more."""
        self._users -= 1
        if self._retired and not self._users:
            await self.close()

    async def retire(self) -> None:
        """Be closed as soon as nobody uses it."""
        self._retired = True
        if not self._users:
            await self.close()

    async def close(self) -> None:
        """Close at once, under whoever still uses it; twice is fine."""
        if self._closed:
            return
        self._closed = True
        # A cancelled request ends in gRPC's own threads, some time after its task. One that has no
        # time at all never leaves this process and comes back by the same way: after those.
        try:
            with anyio.move_on_after(_PATIENCE, shield=True), suppress(grpc.aio.AioRpcError):
                await _settled(self.kv.Range(rpc.RangeRequest(key=b"-"), timeout=0))
        finally:
            await self._channel.close()

    async def call(self, method: Rpc, request: object, metadata: Metadata, timeout: float) -> Any:
        """One request and its answer, in at most `timeout` seconds.

        Raises:
            RegistryError: as `mapped` says.
        """
        with mapped(self.endpoint):
            return await _settled(method(self)(request, metadata=metadata, timeout=timeout))

    async def reach(self, timeout: float) -> None:
        """Return if it answers, whatever it says, in at most `timeout` seconds.

        Raises:
            RegistryUnavailable: it does not, or knows no leader.
        """
        try:
            await self.call(_STATUS, rpc.StatusRequest(), (HAS_LEADER,), timeout)
        except RegistryUnavailable:
            raise
        except RegistryError:
            pass  # whoever refuses lives

    def open(self, method: Rpc, metadata: Metadata) -> Stream:
        """A stream of messages both ways; a user of this member until it is closed.

        Raises:
            RegistryUnavailable: this member was closed.
        """
        with mapped(self.endpoint):
            return Stream(self, method(self)(metadata=metadata))


@final
class Stream:
    """A bidirectional call, with waits that a cancel scope can cut and that lose no message."""

    def __init__(self, member: Member, call: Any) -> None:
        self.member = member
        self._call: Any | None = call
        self._reading: asyncio.Task[Any] | None = None
        member.enter()

    def _open(self) -> Any:
        if self._call is None:
            raise RegistryUnavailable(f"etcd at {self.member.endpoint}: the stream was closed")
        return self._call

    async def write(self, message: object) -> None:
        """Send a message.

        Raises:
            RegistryError: the stream has ended, for the reason given.
        """
        with mapped(self.member.endpoint):
            await _settled(self._open().write(message))

    async def read(self, within: float) -> Any:
        """The next message, or None if none came for `within` seconds.

        Raises:
            RegistryError: the stream has ended, for the reason given.
        """
        return await self._step(lambda: self._open().read(), within)

    async def listen(self, take: Callable[[Any], None], within: float) -> None:
        """Give each message to `take` as it comes; return after `within` seconds.

        The messages that come between two of these calls are taken, too.

        Raises:
            RegistryError: the stream has ended, for the reason given, or `take` raised it.
        """
        await self._step(lambda: _each(self._open(), take), within)

    async def _step(self, begin: Callable[[], Awaitable[Any]], within: float) -> Any:
        """What comes of reading, or None if nothing has for `within` seconds.

        A cancelled read would end the stream, so an unfinished one is kept for the next time.
        """
        if self._reading is None:
            self._reading = asyncio.ensure_future(begin())
        reading = self._reading
        await asyncio.wait({reading}, timeout=within)
        if not reading.done():
            return None
        self._reading = None
        with mapped(self.member.endpoint):
            try:
                message = _outcome(reading)
            finally:
                del reading  # as in `_outcome`
        if message is grpc.aio.EOF:
            raise RegistryUnavailable(f"etcd at {self.member.endpoint}: it ended the stream")
        return message

    async def aclose(self) -> None:
        """End the stream, wait until it has ended, and leave the member; twice is fine.

        The call goes, too: while it exists, wherever this stream is still known, so does its
        connection. The reader has to be gone before that, or the socket leaks (grpc#42125).
        """
        call, self._call = self._call, None
        reading, self._reading = self._reading, None
        if call is None:
            return
        call.cancel()
        try:
            if reading is not None:
                with anyio.move_on_after(_PATIENCE, shield=True):
                    await asyncio.wait({reading})
                await _abandon(reading)
        finally:
            await self.member.leave()


async def _each(call: Any, take: Callable[[Any], None]) -> Any:
    """Read to the end. One task for all messages: a wait for each would double what they cost."""
    while (message := await call.read()) is not grpc.aio.EOF:
        take(message)
    return message


async def _settled(step: Awaitable[T]) -> T:
    """Await a step of an RPC in a task of its own, so that cancellation stays what it is.

    grpc.aio swallows the CancelledError of a cancel scope and raises a new one which the scope
    does not recognise (grpc#43502); and it raises CancelledError in whoever waits on a channel
    that is closed. Across a task both are plain: ours is raised here, the other one is an outcome.

    Raises:
        RegistryUnavailable: the RPC was cancelled, but not by us.
    """
    task = asyncio.ensure_future(step)
    try:
        await asyncio.wait({task})
    except asyncio.CancelledError:
        with anyio.move_on_after(_PATIENCE, shield=True):
            await _abandon(task)
        raise
    try:
        return _outcome(task)
    finally:
        del task


def _outcome(task: asyncio.Future[T]) -> T:
    """The result of a task, and no trace of it: an error that refers to frames which refer to its
    task is a cycle, and keeps the connection open until the garbage collector comes.
    """
    try:
        if task.cancelled():
            raise RegistryUnavailable("the connection to etcd was closed under a request")
        return task.result()
    finally:
        del task


async def _abandon(task: asyncio.Future[Any]) -> None:
    """Cancel and wait; whatever it ended with is of no interest any more."""
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()
