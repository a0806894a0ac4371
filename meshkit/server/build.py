"""From options and servicers to a server of grpc.aio, bound and ready to start."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Final

from grpc import aio

from meshkit.errors import ConfigError
from meshkit.events import DeadlineMissing, Emit
from meshkit.server.behavior import Behavior, Surroundings, WithDeadline
from meshkit.server.calls import Calls
from meshkit.server.gate import Gate
from meshkit.server.limit import AdaptiveLimiter, FixedLimiter
from meshkit.server.load import Load
from meshkit.server.options import ServerOptions

__all__ = ["add_reflection", "bind", "build", "calls_of"]

_TOLD: Final = 256  # methods; a generic handler may answer to any name
_CHANNEL_ARGUMENTS: Final = (
    ("grpc.so_reuseport", 0),  # or two servers share a port without a word
    ("grpc.http2.min_ping_interval_without_data_ms", 1000),  # our clients' keepalive
    ("grpc.keepalive_permit_without_calls", 1),
    # Calls that came and are not begun yet (8 kB each): beyond 1,000 core would answer some of them
    # CANCELLED, as when clients that have waited for their first server all call it at once.
    ("grpc.server.max_pending_requests", 50_000),
    ("grpc.server.max_pending_requests_hard_limit", 100_000),
)


def calls_of(options: ServerOptions, lag: Callable[[], float], emit: Emit) -> Calls:
    """What sees each call first, with what `options` want done.

    Args:
        options: of the server.
        lag: how many seconds late the event loop runs.
        emit: takes the events.
    """
    return Calls(_gate(options, lag, emit), _surroundings(options, emit))


def _gate(options: ServerOptions, lag: Callable[[], float], emit: Emit) -> Gate | None:
    rng = random.Random()
    if options.limit is not None:
        return Gate(AdaptiveLimiter(options.limit, rng, lag), emit)
    if options.max_concurrent_rpcs is not None:
        return Gate(FixedLimiter(options.max_concurrent_rpcs, rng), emit)
    return None


def _surroundings(options: ServerOptions, emit: Emit) -> Surroundings | None:
    load = None if options.load_reports is None else Load(options.load_reports)
    if load is None and not options.propagate_deadline:
        return None
    missing: set[str] = set()

    def tell(method: str) -> None:
        if method not in missing and len(missing) < _TOLD:
            missing.add(method)
            emit(DeadlineMissing(method))

    def surround(behavior: Behavior, method: str, streams: bool) -> Behavior:
        if load is not None:
            behavior = load.around(behavior, streams=streams)
        if options.propagate_deadline:
            behavior = WithDeadline.of(behavior, method, None if streams else tell)
        return behavior

    return Surroundings(surround)


def build(
    options: ServerOptions, threads: Executor, first: Sequence[aio.ServerInterceptor]
) -> aio.Server:
    """A server without services; `first` are the interceptors before those of the options."""
    # By attribute and keyword: so OpenTelemetry's patch of the function sees it.
    return aio.server(
        migration_thread_pool=threads,
        interceptors=(*first, *options.interceptors),
        options=(*options.options, *_CHANNEL_ARGUMENTS),  # of two with one key the first holds
        compression=options.compression,
    )


def bind(server: aio.Server, host: str, options: ServerOptions) -> int:
    """Listen on `host`; the port.

    Raises:
        ConfigError: it cannot be had.
    """
    address = f"{host}:{options.port}"
    try:
        if options.credentials is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, options.credentials)
    except RuntimeError as error:
        raise ConfigError(
            f"cannot listen on {address}: another program has the port, or this machine has no "
            "such address. Free it, or give another port=; 0 lets the system choose"
        ) from error


def add_reflection(server: aio.Server, services: Sequence[str]) -> None:
    """Let tools ask `server` which of these proto services it has and how they look.

    Raises:
        ConfigError: grpcio-reflection is not installed.
    """
    try:
        from grpc_reflection.v1alpha import reflection
    except ImportError as error:
        raise ConfigError("reflection needs an extra: pip install 'meshkit[reflection]'") from error
    names = (*services, "grpc.health.v1.Health", reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server)
