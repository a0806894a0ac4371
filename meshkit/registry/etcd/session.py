"""Requests to a cluster: with one member at a time, the next one when it fails."""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias, TypeVar, final

import anyio
import grpc
import grpc.aio

from meshkit.errors import RegistryUnavailable
from meshkit.events import Emit
from meshkit.registry.etcd.errors import TokenRefused
from meshkit.registry.etcd.member import HAS_LEADER, Member, Metadata, Rpc
from meshkit.registry.etcd.options import EtcdOptions
from meshkit.registry.etcd.tls import TlsFiles
from meshkit.registry.etcd.tokens import Tokens

__all__ = ["Session"]

T = TypeVar("T")
Attempt: TypeAlias = Callable[[Member, float], Awaitable[T]]

_CHANNEL_OPTIONS: Final[tuple[tuple[str, int], ...]] = (
    # etcd ends connections that ping more often than every 5 s (--grpc-keepalive-min-time).
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 5_000),  # the one that current cores obey
    ("grpc.http2.max_pings_without_data", 0),
    # A new channel has to be a new connection, not the broken one of its predecessor.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    ("grpc.max_receive_message_length", -1),
    ("grpc.enable_retries", 0),  # trying again is our business: with another member
)

_SHARES: Final = 3

_MARGIN: Final = 0.1
"""Seconds."""

_LONGEST: Final = 4
"""Times the timeout: how long requests are waited for when those before got no answer in time.

A new connection takes two round trips before its first answer. Where that is longer than a try,
each try would begin another one, for ever.
"""


@final
class Session:
    """One member in use, an auth token, and what to do when either fails.

    Everything asked through it must be safe to repeat: a member may die after it obeyed.
    """

    def __init__(self, options: EtcdOptions, rng: random.Random, emit: Emit) -> None:
        self.options = options
        self._tls = TlsFiles(options, emit, time.monotonic) if options.secure else None
        self._turn = rng.randrange(len(options.endpoints))  # spreads clients over the members
        self._member: Member | None = None
        self._retired: set[Member] = set()
        self._tokens = Tokens(options.username, options.password)
        self._closings = 0
        self._stretch = 1

    @property
    def endpoint(self) -> str:
        """The endpoint of the member in use, or to be used next."""
        return self.options.endpoints[self._turn]

    async def call(self, method: Rpc, request: object) -> Any:
        """One request and its answer, with as many members as needed and time allows.

        Raises:
            RegistryError: as the last member tried said.
        """

        async def ask(member: Member, left: float) -> Any:
            return await self.authorized(
                member, lambda metadata: member.call(method, request, metadata, left)
            )

        return await self.persist(ask)

    async def authorized(self, member: Member, step: Callable[[Metadata], Awaitable[T]]) -> T:
        """`step` with our token, and once more with a new one if that is refused.

        Raises:
            RegistryAuthError: the credentials are wrong, or do not allow this.
        """
        metadata = await self.metadata(member)
        try:
            return await step(metadata)
        except TokenRefused:
            if not self._tokens.renewable:
                raise
            self._tokens.forget(metadata)
            return await step(await self.metadata(member))

    async def persist(self, attempt: Attempt[T]) -> T:
        """`attempt` with the member in use, and while it is unavailable with the next ones.

        It is told how many seconds are left. gRPC's own deadlines leave less behind than a
        cancellation does, so they come first; the scope here is for whatever outlasts them.

        All together take at most `timeout` seconds; twice as long if nobody answered the last
        time, and at most four times. Each member gets a try, a single one two: its
        connection may have died of old age. A silent one is left after a part of the time, a third
        if there are three or more: another may answer where a frozen one does not.

        Raises:
            RegistryUnavailable: no member did it, or not in time.
        """
        stretch = self._stretch
        timeout = self.options.timeout * stretch
        deadline = anyio.current_time() + timeout
        try:
            outcome = await self._try(attempt, timeout, deadline)
        except RegistryUnavailable:
            if anyio.current_time() >= deadline - _MARGIN:
                self._stretch = min(2 * stretch, _LONGEST)
            raise
        self._stretch = 1
        return outcome

    async def _try(self, attempt: Attempt[T], timeout: float, deadline: float) -> T:
        closings = self._closings
        tries = max(2, len(self.options.endpoints))
        share = timeout / min(tries, _SHARES)
        for _ in range(tries - 1):
            try:
                return await self._attempt(attempt, min(share, deadline - anyio.current_time()))
            except RegistryUnavailable:
                # After a close under us another try would open everything again.
                if anyio.current_time() >= deadline or closings != self._closings:
                    raise
        return await self._attempt(attempt, max(0.0, deadline - anyio.current_time()))

    async def _attempt(self, attempt: Attempt[T], left: float) -> T:
        if self._member is not None and self._tls is not None and self._tls.renewed():
            await self._part_with(self._member)
        member = self._current()
        member.enter()
        try:
            with anyio.fail_after(left + _MARGIN):
                return await attempt(member, left)
        except RegistryUnavailable:
            await self.rotate(member)
            raise
        except TimeoutError as error:
            await self.rotate(member)
            raise RegistryUnavailable(
                f"etcd at {member.endpoint}: no answer within {left:.1f} s"
            ) from error
        finally:
            await member.leave()

    def _current(self) -> Member:
        if self._member is None:
            self._member = Member(self.endpoint, self._channel())
        return self._member

    def _channel(self) -> grpc.aio.Channel:
        """A new connection; names are resolved and files are read for each."""
        if self._tls is None:
            return grpc.aio.insecure_channel(self.endpoint, options=_CHANNEL_OPTIONS)
        name = self.options.server_name
        extra = (("grpc.ssl_target_name_override", name),) if name else ()
        return grpc.aio.secure_channel(
            self.endpoint, self._tls.credentials(), options=(*_CHANNEL_OPTIONS, *extra)
        )

    async def rotate(self, failed: Member) -> None:
        """Use the next member from now on, unless somebody left `failed` already."""
        if self._member is failed:
            self._turn = (self._turn + 1) % len(self.options.endpoints)
            await self._part_with(failed)

    async def _part_with(self, member: Member) -> None:
        """Use another connection from now on; this one ends with its last user."""
        self._member = None
        await member.retire()
        self._retired = {member for member in self._retired | {member} if member.in_use}

    async def metadata(self, member: Member) -> Metadata:
        """What goes with every request and stream; asks for an auth token if there is none.

        Raises:
            RegistryAuthError: the credentials are wrong.
        """
        return (HAS_LEADER, *await self._tokens.metadata(member))

    async def aclose(self) -> None:
        """Close all connections, under running requests, too; usable again afterwards."""
        members = self._retired | ({self._member} if self._member else set())
        self._member, self._retired = None, set()
        self._closings += 1
        await self._tokens.aclose()
        for member in members:
            await member.close()
