"""Renewing leases over one stream."""

from __future__ import annotations

from operator import attrgetter
from typing import Final, final

import anyio
from aetcd import rpc

from meshkit.errors import RegistryUnavailable
from meshkit.registry.etcd.member import Member, Metadata, Rpc, Stream
from meshkit.registry.etcd.session import Session

__all__ = ["KeepAlive"]

_KEEP_ALIVE: Final[Rpc] = attrgetter("lease.LeaseKeepAlive")


@final
class KeepAlive:
    """One ping and its answer at a time, over a stream that is dropped at the first doubt."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._stream: Stream | None = None
        self._turns = anyio.Lock()

    async def renew(self, lease: int) -> float:
        """The seconds that the lease has from now on; 0.0 if it is gone.

        etcd says that a lease is gone by a time to live of 0, not by an error.

        Raises:
            RegistryUnavailable: nobody answered; the lease may live or not.
        """

        async def ping(member: Member, left: float) -> float:
            async with self._turns:
                return await self._session.authorized(
                    member, lambda metadata: self._ping(member, metadata, lease, left)
                )

        return await self._session.persist(ping)

    async def _ping(self, member: Member, metadata: Metadata, lease: int, left: float) -> float:
        stream, self._stream = self._stream, None
        if stream is not None and stream.member is not member:
            await stream.aclose()
            stream = None
        if stream is None:
            # A stream that finds nobody costs some 200 bytes for ever: grpc.aio does not free the
            # operations of a batch that fails. A request that finds nobody costs nothing.
            await member.reach(left)
            stream = member.open(_KEEP_ALIVE, metadata)
        try:
            await stream.write(rpc.LeaseKeepAliveRequest(ID=lease))
            answer = await stream.read(left)
            if answer is None:
                raise RegistryUnavailable(f"etcd at {member.endpoint}: it answers no ping")
            self._stream = stream
        finally:
            # An answer that is still to come would be taken for that of the next ping.
            if self._stream is not stream:
                await stream.aclose()
        return max(0.0, float(answer.TTL))

    async def aclose(self) -> None:
        """End the stream; the next `renew` opens another one."""
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream.aclose()
