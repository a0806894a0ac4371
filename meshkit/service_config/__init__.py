"""gRPC's service config as frozen values: parsed, validated, looked up by method."""

from meshkit.service_config.config import (
    HealthCheckConfig,
    RetryThrottling,
    ServiceConfig,
    ServiceConfigSource,
)
from meshkit.service_config.methods import HedgingPolicy, MethodConfig, MethodName, RetryPolicy

__all__ = [
    "HealthCheckConfig",
    "HedgingPolicy",
    "MethodConfig",
    "MethodName",
    "RetryPolicy",
    "RetryThrottling",
    "ServiceConfig",
    "ServiceConfigSource",
]
