"""A connection to one endpoint, with its load: the node that a balancer picks."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, final

import anyio
import grpc
import grpc.aio

from meshkit.balancer import InFlight, Load, Readiness
from meshkit.client.connection import ConnectionOptions, fresh_number, untraced
from meshkit.endpoint import Endpoint
from meshkit.identity import stranger

__all__ = ["TURNED_AWAY", "Method", "Subchannel"]

# What a call is told when core had no connection to give it to: it never left this process. And
# what it is told when the server has closed the connection without taking it (gRFC A6: a GOAWAY
# with the id of an earlier stream). Core says it in words only, so `unseen` asks for the
# connection's state as well. It cannot do so for REFUSED_STREAM, which closes nothing.
_NEVER_SENT: Final = (
    "connections to all backends failing",
    "failed to connect to all addresses",
    "empty address list",
)
TURNED_AWAY: Final = "Stream removed (GOAWAY received"

_CHECK: Final = "/grpc.health.v1.Health/Check"
_PATIENCE: Final = 1.0  # seconds for the answer to it


@final
@dataclass(frozen=True, slots=True, eq=False)
class Method:
    """One method of a stub: what a channel needs to make a multicallable for it."""

    kind: str
    path: str
    serializer: Callable[[Any], bytes] | None
    deserializer: Callable[[bytes], Any] | None
    registered: bool

    def size(self, request: Any) -> int:
        """Bytes of a request on the wire; 0 of one that cannot be sent."""
        try:
            return len(request if self.serializer is None else self.serializer(request))
        except Exception:  # noqa: BLE001 -- of the caller's: grpc.aio has logged it
            return 0


@final
class _Multicallables(dict[Method, Callable[..., Any]]):
    """The functions that start calls on one connection, each made when it is first looked up."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        super().__init__()
        self._channel = channel

    def __missing__(self, method: Method) -> Callable[..., Any]:
        made: Callable[..., Any] = getattr(self._channel, method.kind)(
            method.path,
            request_serializer=method.serializer,
            response_deserializer=method.deserializer,
            _registered_method=method.registered,
        )
        self[method] = made
        return made


@final
class Subchannel(Load):
    """One grpc.aio channel to one endpoint, and the calls that are on it.

    Args:
        in_flight: where the calls to the whole service are counted.

    Attributes:
        endpoint: whom it connects to; a newer description replaces it while id and address stay.
        readiness: what the connection and the endpoint's health service say, and whether it is
            the endpoint at all that answers.
        multicallables: the function that starts a call of a method on this connection.
    """

    __slots__ = (
        "_channel",
        "_connection",
        "_idle",
        "_in_flight",
        "_lost_at",
        "_number",
        "endpoint",
        "multicallables",
        "readiness",
    )

    def __init__(
        self, endpoint: Endpoint, connection: ConnectionOptions, in_flight: InFlight
    ) -> None:
        super().__init__()
        self._in_flight = in_flight
        self.endpoint = endpoint
        self.readiness = Readiness.CONNECTING
        self._connection = connection
        self._number = fresh_number()
        self._channel = connection.connect(endpoint, self._number)
        self.multicallables: Mapping[Method, Callable[..., Any]] = _Multicallables(self._channel)
        self._lost_at = -math.inf
        self._idle: anyio.Event | None = None

    def __repr__(self) -> str:
        return f"<Subchannel {self.endpoint.address} {self.readiness}, {self.pending} pending>"

    def start(self) -> None:
        """Count a call that begins, here and for the service."""
        self.pending += 1
        self._in_flight.pending += 1

    def finish(self, took: float | None, now: float) -> None:
        """Count the end of a call; whoever waits to close the connection may be waiting for it."""
        Load.finish(self, took, now)
        in_flight = self._in_flight
        in_flight.pending -= 1
        if in_flight.freed is not None:
            in_flight.freed()
        if self._idle is not None and self.pending == 0:
            self._idle.set()

    def unseen(self, details: str, sent_at: float) -> bool:
        """Whether no server has seen a call that ended UNAVAILABLE.

        A server may well pass on such words of its own upstream; but then our connection was up.

        Args:
            details: what the call was told.
            sent_at: when it was put on this connection, by the loop's clock.
        """
        if not details.startswith((*_NEVER_SENT, TURNED_AWAY)):
            return False
        return not self.is_connected or self._lost_at >= sent_at

    @property
    def is_connected(self) -> bool:
        """Whether a call would be sent now, whoever answers it."""
        return self._channel.get_state() is grpc.ChannelConnectivity.READY

    async def watch(
        self,
        changed: Callable[[Subchannel, Readiness], None],
        met: Callable[[Subchannel, str], None],
    ) -> None:
        """Follow the connection until it is closed.

        TRANSIENT_FAILURE holds until READY (gRFC A62): a connection that is tried again and again
        is failing, not connecting. So is one to somebody else, until it ends.

        Args:
            changed: told whenever the readiness is another one.
            met: told who answers instead of the endpoint, once for each.
        """
        states = grpc.ChannelConnectivity
        known = ""
        while (state := self._channel.get_state(try_to_connect=True)) is not states.SHUTDOWN:
            readiness = self.readiness
            if state is states.READY:
                who = await self._stranger()
                if not self.is_connected:  # lost meanwhile
                    continue
                if who and who != known:
                    met(self, who)
                known = who
                readiness = Readiness.FAILING if who else Readiness.READY
            elif state is states.TRANSIENT_FAILURE:
                readiness = Readiness.FAILING
            elif readiness is Readiness.READY:  # lost, and being made again
                readiness = Readiness.CONNECTING
            if readiness is not self.readiness:
                changed(self, readiness)
            await self._channel.wait_for_state_change(state)
            if state is states.READY:
                self._lost_at = asyncio.get_running_loop().time()

    async def _stranger(self) -> str:
        """Who answers instead of the endpoint, in words; "" if nobody is known to.

        A server that cannot be asked, or does not say, is taken for the right one: it may be none
        of ours. Costs one round trip for each connection.
        """
        if not self._connection.interceptors:
            return await self._ask(self._channel)
        # Those are for the user's calls.
        bare = replace(self._connection, interceptors=())
        async with bare.connect(self.endpoint, self._number) as channel:
            return await self._ask(channel)

    async def _ask(self, channel: grpc.aio.Channel) -> str:
        check: Any = channel.unary_unary(_CHECK)
        with untraced():
            call = check(b"", timeout=_PATIENCE)  # bytes: an empty message is no byte at all
            try:
                await call.code()
                return stranger(self.endpoint, await call.trailing_metadata())
            finally:
                call.cancel()

    async def close(self, grace: float | None) -> None:
        """Close when the last call has ended, or after `grace` seconds; None: no limit.

        Closing earlier would throw CancelledError into whoever awaits a call.
        """
        try:
            if self.pending:
                self._idle = self._idle or anyio.Event()
                with anyio.move_on_after(grace):
                    await self._idle.wait()
        finally:
            await self._channel.close()  # needs no waiting: done even if we are being cancelled
