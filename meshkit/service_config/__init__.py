"""gRPC's service config as frozen values: parsed, validated, looked up by method."""

from meshkit.service_config.config import (
    DEFAULTS,
    HealthCheckConfig,
    RetryThrottling,
    ServiceConfig,
    ServiceConfigSource,
    document,
)
from meshkit.service_config.matches import HeaderMatch, RouteMatch
from meshkit.service_config.merge import Merged, merge
from meshkit.service_config.methods import HedgingPolicy, MethodConfig, MethodName, RetryPolicy
from meshkit.service_config.routes import Destination, Fallback, Route, route_for

__all__ = [
    "DEFAULTS",
    "Destination",
    "Fallback",
    "HeaderMatch",
    "HealthCheckConfig",
    "HedgingPolicy",
    "Merged",
    "MethodConfig",
    "MethodName",
    "RetryPolicy",
    "RetryThrottling",
    "Route",
    "RouteMatch",
    "ServiceConfig",
    "ServiceConfigSource",
    "document",
    "merge",
    "route_for",
]
