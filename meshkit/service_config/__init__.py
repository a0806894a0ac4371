"""gRPC's service config as frozen values: parsed, validated, looked up by method."""

from meshkit.service_config.config import (
    DEFAULTS,
    HealthCheckConfig,
    RetryThrottling,
    ServiceConfig,
    ServiceConfigSource,
    document,
)
from meshkit.service_config.merge import Merged, merge
from meshkit.service_config.methods import HedgingPolicy, MethodConfig, MethodName, RetryPolicy

__all__ = [
    "DEFAULTS",
    "HealthCheckConfig",
    "HedgingPolicy",
    "Merged",
    "MethodConfig",
    "MethodName",
    "RetryPolicy",
    "RetryThrottling",
    "ServiceConfig",
    "ServiceConfigSource",
    "document",
    "merge",
]
