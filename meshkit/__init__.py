"""Service registration, discovery and per-call load balancing for asyncio gRPC programs."""

from meshkit.balancer import (
    Adaptive,
    CircuitBreaker,
    Counts,
    FailurePercentageEjection,
    LeastRequest,
    Maglev,
    Node,
    OutlierDetection,
    PeakEwma,
    Picker,
    PickFirst,
    PickInfo,
    Policy,
    PowerOfTwo,
    Random,
    Readiness,
    Resilience,
    RingHash,
    RoundRobin,
    SlowStart,
    Sticky,
    SuccessRateEjection,
    WeightedRoundRobin,
    ZoneAware,
)
from meshkit.client import (
    Channel,
    ChannelOptions,
    ChannelStatus,
    ConnectionOptions,
    EndpointStatus,
    RetryLimits,
)
from meshkit.deadline import no_deadline, time_remaining
from meshkit.discovery import (
    Registrar,
    Registration,
    RegistrationState,
    Resolution,
    Resolver,
    Watch,
)
from meshkit.endpoint import Delta, Endpoint, EndpointSet, State
from meshkit.errors import (
    ConfigError,
    MeshClosedError,
    MeshError,
    RegistryAuthError,
    RegistryError,
    RegistryUnavailable,
)
from meshkit.events import Event, Hook
from meshkit.mesh import Mesh
from meshkit.orca import LoadReport
from meshkit.running import MeshStatus
from meshkit.server import (
    AdaptiveLimit,
    Draining,
    LoadReports,
    Phase,
    Quiet,
    Server,
    ServerOptions,
    draining,
    report_load,
)
from meshkit.service_config import (
    Destination,
    Fallback,
    HeaderMatch,
    HealthCheckConfig,
    HedgingPolicy,
    MethodConfig,
    MethodName,
    RetryPolicy,
    RetryThrottling,
    Route,
    RouteMatch,
    ServiceConfig,
)

__version__ = "0.1.0"

__all__ = [  # noqa: RUF022 -- grouped by what it is for
    # the door
    "Mesh",
    "MeshStatus",
    # values
    "Delta",
    "Endpoint",
    "EndpointSet",
    "State",
    # servers
    "AdaptiveLimit",
    "Draining",
    "LoadReport",
    "LoadReports",
    "Phase",
    "Quiet",
    "Server",
    "ServerOptions",
    "draining",
    "no_deadline",
    "report_load",
    "time_remaining",
    # clients
    "Channel",
    "ChannelOptions",
    "ChannelStatus",
    "ConnectionOptions",
    "EndpointStatus",
    # how calls are made
    "HealthCheckConfig",
    "HedgingPolicy",
    "MethodConfig",
    "MethodName",
    "RetryLimits",
    "RetryPolicy",
    "RetryThrottling",
    "ServiceConfig",
    # where calls go
    "Destination",
    "Fallback",
    "HeaderMatch",
    "Route",
    "RouteMatch",
    # balancing policies
    "Adaptive",
    "Counts",
    "LeastRequest",
    "Maglev",
    "Node",
    "PeakEwma",
    "PickFirst",
    "PickInfo",
    "Picker",
    "Policy",
    "PowerOfTwo",
    "Random",
    "Readiness",
    "RingHash",
    "RoundRobin",
    "Sticky",
    "WeightedRoundRobin",
    # around the policy
    "CircuitBreaker",
    "FailurePercentageEjection",
    "OutlierDetection",
    "Resilience",
    "SlowStart",
    "SuccessRateEjection",
    "ZoneAware",
    # the two ports
    "Registrar",
    "Registration",
    "RegistrationState",
    "Resolution",
    "Resolver",
    "Watch",
    # events
    "Event",
    "Hook",
    # errors
    "ConfigError",
    "MeshClosedError",
    "MeshError",
    "RegistryAuthError",
    "RegistryError",
    "RegistryUnavailable",
]
