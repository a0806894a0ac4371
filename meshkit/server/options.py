"""How a server is set up."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict, final

import grpc

from meshkit.discovery import REGISTER_TIMEOUT
from meshkit.endpoint import DEFAULT_WEIGHT
from meshkit.errors import ConfigError
from meshkit.server.calls import Quiet
from meshkit.server.limit import AdaptiveLimit
from meshkit.server.load import LoadReports

__all__ = ["ServerKeywords", "ServerOptions", "Site"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """How a server is set up. Times are seconds.

    Attributes:
        host: to listen on; by default the loopback if that is announced, else all interfaces.
        port: to listen on; 0 lets the system choose.
        advertise: `host` or `host:port` that clients dial; by default the address that this
            machine has on its way to the registry.
        weight: 0 takes no calls; other weights are announced, for pickers that look at them.
        zone: where it runs; by default where the mesh does.
        version: of the program.
        metadata: free labels of the endpoints.
        require_registration: whether entering fails while the registry cannot be reached; if not,
            it serves its port and is announced when the registry comes.
        register_timeout: how long entering waits for the registry.
        grace: how long calls in flight may go on when the server drains.
        leave_timeout: how long leaving the registry may take.
        quiet: how long to serve on after leaving, until clients have noticed.
        reflection: answer gRPC server reflection (needs grpcio-reflection).
        interceptors: of the calls.
        options: channel arguments of gRPC; they win over ours.
        credentials: for TLS; plain text without.
        max_concurrent_rpcs: more are refused with RESOURCE_EXHAUSTED; open streams count.
        limit: the same with a limit that follows what the server can do; streams do not count.
        load_reports: tell clients at the end of each call how busy this server is.
        propagate_deadline: whether calls that a handler makes get at most the time that remains for
            the call it serves.
        compression: of responses.
    """

    host: str | None = None
    port: int = 0
    advertise: str | None = None
    weight: int = DEFAULT_WEIGHT
    zone: str = ""
    version: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    require_registration: bool = True
    register_timeout: float = REGISTER_TIMEOUT
    grace: float = 15.0
    leave_timeout: float = 2.0
    quiet: Quiet = field(default_factory=Quiet)
    reflection: bool = False
    interceptors: Sequence[grpc.aio.ServerInterceptor] = ()
    options: Sequence[tuple[str, Any]] = ()
    credentials: grpc.ServerCredentials | None = None
    max_concurrent_rpcs: int | None = None
    limit: AdaptiveLimit | None = None
    load_reports: LoadReports | None = None
    propagate_deadline: bool = True
    compression: grpc.Compression | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.port < 1 << 16:
            raise ConfigError(f"port must be 0 to 65535, got {self.port}")
        if self.weight < 0:
            raise ConfigError(f"weight must be 0 or more, got {self.weight}")
        if min(self.grace, self.leave_timeout, self.register_timeout) < 0:
            raise ConfigError("grace, leave_timeout and register_timeout must be 0 or more")
        if self.max_concurrent_rpcs is not None:
            if self.limit is not None:
                raise ConfigError(
                    "give max_concurrent_rpcs or limit, not both; a limit has a maximum of its own"
                )
            if self.max_concurrent_rpcs < 1:
                raise ConfigError(
                    f"max_concurrent_rpcs must be 1 or more, got {self.max_concurrent_rpcs}"
                )

    @property
    def longest_drain(self) -> float:
        """Seconds after which every wait of a drain has ended."""
        return self.leave_timeout + self.quiet.at_most + self.grace


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where a server runs.

    Attributes:
        address: what the environment says to advertise; `ServerOptions.advertise` wins.
        allow_remote: whether a registry of this machine only may hold addresses of others.
        loop_lag: how many seconds late the event loop runs, now.
    """

    address: str | None = None
    allow_remote: bool = False
    loop_lag: Callable[[], float] = float  # never late, where nobody measures


class ServerKeywords(TypedDict, total=False):
    """The fields of `ServerOptions` as keyword arguments of `Mesh.serve`."""

    host: str | None
    port: int
    advertise: str | None
    weight: int
    zone: str
    version: str
    metadata: Mapping[str, str]
    require_registration: bool
    register_timeout: float
    grace: float
    leave_timeout: float
    quiet: Quiet
    reflection: bool
    interceptors: Sequence[grpc.aio.ServerInterceptor]
    options: Sequence[tuple[str, Any]]
    credentials: grpc.ServerCredentials | None
    max_concurrent_rpcs: int | None
    limit: AdaptiveLimit | None
    load_reports: LoadReports | None
    propagate_deadline: bool
    compression: grpc.Compression | None
