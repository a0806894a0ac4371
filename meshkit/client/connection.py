"""How a connection to one endpoint is made."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, final

import grpc
import grpc.aio

from meshkit.endpoint import Endpoint
from meshkit.errors import ConfigError
from meshkit.fields import to_json
from meshkit.service_config import DEFAULTS, HealthCheckConfig, ServiceConfig

__all__ = ["ConnectionOptions", "for_core", "fresh_number", "untraced"]

fresh_number: Final = itertools.count(1).__next__

_Options: TypeAlias = tuple[tuple[str, Any], ...]

_NUMBER: Final = "meshkit.connection"  # an option that core does not know, and compares

_OPTIONS: Final[_Options] = (
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 2000),
    # Retries go to another endpoint, so they are ours. The rest is work of core's that one
    # connection to one address does not need; it pays for our own.
    ("grpc.enable_retries", 0),
    ("grpc.enable_channelz", 0),
    ("grpc.http2.bdp_probe", 0),
    ("grpc.client_idle_timeout_ms", 2**31 - 1),
)

_SIZES: Final = ("maxRequestMessageBytes", "maxResponseMessageBytes")


def for_core(config: ServiceConfig) -> _Options:
    """What of a service config core is told: what concerns single connections."""
    methods = [to_json(entry) for entry in config.method_config if entry.name]
    sizes = [{key: entry[key] for key in _SIZES if key in entry} for entry in methods]
    health = config.health_check_config or HealthCheckConfig()
    told = {
        # pick_first ignores health and goes idle when a connection is lost; round_robin over the
        # one address watches health (gRFC A17) and connects again by itself.
        "loadBalancingConfig": [{"round_robin": {}}],
        "healthCheckConfig": {"serviceName": health.service_name},
        "methodConfig": [
            {"name": entry["name"], **limits} for entry, limits in zip(methods, sizes, strict=True)
        ],
    }
    limited = (("grpc.minimal_stack", 0),) if any(sizes) else ()
    return (("grpc.service_config", json.dumps(told)), *limited)


_DEFAULTS: Final = for_core(DEFAULTS)


def _stack(options: Mapping[str, Any]) -> _Options:
    # Whoever wants messages of any size need not have each call pass by core's limits on them,
    # which take a twentieth of its time. Where nothing is said there is one: 4 MiB for responses.
    sent, received = "grpc.max_send_message_length", "grpc.max_receive_message_length"
    is_unlimited = options.get(received) == options.get(sent, -1) == -1
    return (("grpc.minimal_stack", 1),) if is_unlimited else ()


def _pings(seconds: float) -> _Options:
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
        core_options: what core is told of the service config: `for_core` makes them.
    """

    credentials: grpc.ChannelCredentials | None = None
    interceptors: Sequence[grpc.aio.ClientInterceptor] = ()
    compression: grpc.Compression | None = None
    options: _Options = ()
    core_options: _Options = _DEFAULTS

    def __post_init__(self) -> None:
        # grpc.aio would tell each connection, in a task where nobody who could help hears it.
        wrong = [i for i in self.interceptors if not isinstance(i, grpc.aio.ClientInterceptor)]
        if wrong:
            raise ConfigError(f"not an interceptor of grpc.aio: {wrong[0]!r}")
        if not isinstance(self.credentials, grpc.ChannelCredentials | None):
            raise ConfigError(f"not channel credentials: {type(self.credentials).__name__}")

    def connect(self, endpoint: Endpoint, number: int) -> grpc.aio.Channel:
        """A channel to `endpoint` alone.

        Args:
            endpoint: whom it connects to.
            number: of the connection. In plaintext, channels with the same number share one (with
                TLS core makes another), so a `fresh_number` inherits none that hangs.
        """
        # Of two with the same key the first one holds.
        stack = _stack(dict(reversed(self.options)))
        options = (*self.options, *self.core_options, *stack, *_OPTIONS, (_NUMBER, number))
        if endpoint.keepalive:
            options += _pings(endpoint.keepalive)
        if not endpoint.health:
            options += (("grpc.inhibit_health_checking", 1),)
        # Looked up on the module at each call: OpenTelemetry replaces these two functions.
        if self.credentials is None:
            return grpc.aio.insecure_channel(
                endpoint.address,
                options=options,
                compression=self.compression,
                interceptors=list(self.interceptors),
            )
        # The certificate must name the service, not the machine it happens to run on.
        authority = ("grpc.default_authority", endpoint.service)
        return grpc.aio.secure_channel(
            endpoint.address,
            self.credentials,
            options=(*options, authority),
            compression=self.compression,
            interceptors=list(self.interceptors),
        )


def untraced() -> AbstractContextManager[None]:
    """A block in which OpenTelemetry makes no spans, if the program uses it."""
    telemetry = sys.modules.get("opentelemetry.instrumentation.utils")
    return nullcontext() if telemetry is None else telemetry.suppress_instrumentation()
