"""A connection to one endpoint, with its load: the node that a balancer picks."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import anyio
import grpc
import grpc.aio

from meshkit.balancer import PendingCalls, Readiness
from meshkit.endpoint import Endpoint
from meshkit.errors import ConfigError

__all__ = ["ConnectionOptions", "Method", "Subchannel"]

# What a call is told when core had no connection to give it to: it never left this process. Core
# says it in words only, so `was_never_sent` asks for the connection's state as well.
_NEVER_SENT: Final = (
    "connections to all backends failing",
    "failed to connect to all addresses",
    "empty address list",
)

_SERVICE_CONFIG: Final = json.dumps(
    {
        # pick_first ignores health and goes idle when a connection is lost; round_robin over the
        # one address watches health (gRFC A17) and connects again by itself.
        "loadBalancingConfig": [{"round_robin": {}}],
        "healthCheckConfig": {"serviceName": ""},
    }
)

_OPTIONS: Final[tuple[tuple[str, Any], ...]] = (
    ("grpc.service_config", _SERVICE_CONFIG),
    ("grpc.use_local_subchannel_pool", 1),  # a new subchannel must not inherit a hung connection
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 2000),
    # Retries go to another endpoint, so they are ours. The rest is work of core's that one
    # connection to one address does not need; it pays for our own. ("grpc.minimal_stack" would
    # pay more, but it drops the limits on the size of messages.)
    ("grpc.enable_retries", 0),
    ("grpc.enable_channelz", 0),
    ("grpc.http2.bdp_probe", 0),
)


def _pings(seconds: float) -> tuple[tuple[str, Any], ...]:
    return (
        ("grpc.keepalive_time_ms", round(seconds * 1000)),
        # keepalive_timeout alone does not fire when the peer hangs; the ping timeout does.
        ("grpc.keepalive_timeout_ms", 3000),
        ("grpc.http2.ping_timeout_ms", 3000),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.keepalive_permit_without_calls", 1),
    )


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionOptions:
    """How connections to endpoints are made; the words are grpc.aio's.

    Attributes:
        credentials: channel credentials; None for plaintext.
        interceptors: client interceptors; each sees a call after its endpoint was picked.
        compression: default compression of calls.
        options: further channel options, stronger than meshkit's own.
    """

    credentials: grpc.ChannelCredentials | None = None
    interceptors: Sequence[grpc.aio.ClientInterceptor] = ()
    compression: grpc.Compression | None = None
    options: tuple[tuple[str, Any], ...] = ()

    def __post_init__(self) -> None:
        # grpc.aio would tell each connection, in a task where nobody who could help hears it.
        wrong = [i for i in self.interceptors if not isinstance(i, grpc.aio.ClientInterceptor)]
        if wrong:
            raise ConfigError(f"not an interceptor of grpc.aio: {wrong[0]!r}")
        if not isinstance(self.credentials, grpc.ChannelCredentials | None):
            raise ConfigError(f"not channel credentials: {type(self.credentials).__name__}")

    def connect(self, endpoint: Endpoint) -> grpc.aio.Channel:
        """A channel to `endpoint` alone."""
        options = _OPTIONS + (_pings(endpoint.keepalive) if endpoint.keepalive else ())
        # Looked up on the module at each call: OpenTelemetry replaces these two functions.
        if self.credentials is None:
            return grpc.aio.insecure_channel(
                endpoint.address,
                options=options + self.options,
                compression=self.compression,
                interceptors=list(self.interceptors),
            )
        # The certificate must name the service, not the machine it happens to run on.
        authority = (("grpc.default_authority", endpoint.service),)
        return grpc.aio.secure_channel(
            endpoint.address,
            self.credentials,
            options=authority + options + self.options,
            compression=self.compression,
            interceptors=list(self.interceptors),
        )


@final
@dataclass(frozen=True, slots=True, eq=False)
class Method:
    """One method of a stub: what a channel needs to make a multicallable for it."""

    kind: str
    path: str
    serializer: Callable[[Any], bytes] | None
    deserializer: Callable[[bytes], Any] | None
    registered: bool


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
class Subchannel(PendingCalls):
    """One grpc.aio channel to one endpoint, and the calls that are on it.

    Attributes:
        endpoint: whom it connects to; a newer description replaces it while id and address stay.
        readiness: what the connection and the endpoint's health service say.
        multicallables: the function that starts a call of a method on this connection.
    """

    __slots__ = ("_channel", "_idle", "endpoint", "multicallables", "readiness")

    def __init__(self, endpoint: Endpoint, connection: ConnectionOptions) -> None:
        super().__init__()
        self.endpoint = endpoint
        self.readiness = Readiness.CONNECTING
        self._channel = connection.connect(endpoint)
        self.multicallables: Mapping[Method, Callable[..., Any]] = _Multicallables(self._channel)
        self._idle: anyio.Event | None = None

    def __repr__(self) -> str:
        return f"<Subchannel {self.endpoint.address} {self.readiness}, {self.pending} pending>"

    def finish(self, ok: bool) -> None:
        """Count the end of a call; whoever waits to close the connection may be waiting for it."""
        super().finish(ok)
        if self.pending == 0 and self._idle is not None:
            self._idle.set()

    def was_never_sent(self, details: str) -> bool:
        """Whether a call that ended UNAVAILABLE with `details` never left this process.

        A server may well pass on such words of its own upstream; but then our connection is up.
        """
        return (
            details.startswith(_NEVER_SENT)
            and self._channel.get_state() is not grpc.ChannelConnectivity.READY
        )

    async def watch(self, changed: Callable[[Subchannel, Readiness], None]) -> None:
        """Tell `changed` whenever the readiness is another one, until closed.

        TRANSIENT_FAILURE holds until READY (gRFC A62): a connection that is tried again and again
        is failing, not connecting.
        """
        states = grpc.ChannelConnectivity
        while (state := self._channel.get_state(try_to_connect=True)) is not states.SHUTDOWN:
            readiness = self.readiness
            if state is states.READY:
                readiness = Readiness.READY
            elif state is states.TRANSIENT_FAILURE:
                readiness = Readiness.FAILING
            elif readiness is Readiness.READY:  # lost, and being made again
                readiness = Readiness.CONNECTING
            if readiness is not self.readiness:
                changed(self, readiness)
            await self._channel.wait_for_state_change(state)

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
