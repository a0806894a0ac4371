"""CDS: how the endpoints of a service are called: policy, limits, outliers."""

from __future__ import annotations

from typing import Any, Final

from envoy.config.cluster.v3.circuit_breaker_pb2 import CircuitBreakers
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.cluster.v3.outlier_detection_pb2 import OutlierDetection as OutlierMessage
from envoy.config.core.v3.config_source_pb2 import V3, AggregatedConfigSource, ConfigSource
from envoy.extensions.upstreams.http.v3.http_protocol_options_pb2 import HttpProtocolOptions
from google.protobuf.duration_pb2 import Duration
from google.protobuf.wrappers_pb2 import UInt32Value

from meshkit.balancer import CircuitBreaker, Maglev, OutlierDetection, RingHash, Sticky
from meshkit.service_config import ServiceConfig
from meshkit.xds.names import Family
from meshkit.xds.policies import duration, envoy_policies, grpc_policies
from meshkit.xds.resources import pack

__all__ = ["ADS", "cluster"]

ADS: Final = ConfigSource(ads=AggregatedConfigSource(), resource_api_version=V3)
_ANY_NUMBER: Final = 2**32 - 1
_COMPARED: Final = 2
"""Endpoints at least: the only one there is gets calls, however they end."""
_PROTOCOL: Final = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def cluster(name: str, config: ServiceConfig, family: Family, *, zoned: bool) -> Any:
    """The `Cluster` of this name.

    Args:
        name: of the cluster; its endpoints have the same.
        config: what holds, defaults included.
        family: whose clients.
        zoned: whether zones have shares of the calls.
    """
    found = Cluster(name=name, type=Cluster.EDS)
    found.eds_cluster_config.eds_config.CopyFrom(ADS)
    found.eds_cluster_config.service_name = name
    if isinstance(config.load_balancing_config, RingHash | Maglev | Sticky):
        found.lb_policy = Cluster.RING_HASH  # for clients that do not know the list of policies
    found.circuit_breakers.CopyFrom(_limits(config.circuit_breaker))
    if config.outlier_detection is not None:
        found.outlier_detection.CopyFrom(_outliers(config.outlier_detection))
    if family is Family.GRPC:
        found.load_balancing_policy.CopyFrom(grpc_policies(config.load_balancing_config))
    else:
        policies = envoy_policies(config.load_balancing_config, config.slow_start, zoned=zoned)
        found.load_balancing_policy.CopyFrom(policies)
        _complete(found)
    return found


def _complete(found: Any) -> None:
    """What Envoy needs besides: HTTP/2, and no calls to endpoints that are about to leave."""
    found.connect_timeout.CopyFrom(Duration(seconds=2))
    found.common_lb_config.healthy_panic_threshold.value = 0.0
    options = HttpProtocolOptions()
    options.explicit_http_config.http2_protocol_options.SetInParent()
    found.typed_extension_protocol_options[_PROTOCOL].CopyFrom(pack(options))


def _limits(breaker: CircuitBreaker | None) -> Any:
    """No limits where none are configured: the defaults of both families are 1024 calls."""
    most = breaker.max_requests if breaker is not None else None
    limits = CircuitBreakers.Thresholds(max_requests=_number(most or _ANY_NUMBER))
    for field in ("max_connections", "max_pending_requests", "max_retries"):
        getattr(limits, field).value = _ANY_NUMBER
    return CircuitBreakers(thresholds=[limits])


def _outliers(detection: OutlierDetection) -> Any:
    """Everything is said: what is left out is on in one family and off in the other."""
    rate, share = detection.success_rate_ejection, detection.failure_percentage_ejection
    # Ejection is not ignored when too few are left, so it ends before that.
    most = min(detection.max_ejection_percent, 100 - detection.panic_threshold)
    found = OutlierMessage(
        interval=duration(detection.interval),
        base_ejection_time=duration(detection.base_ejection_time),
        max_ejection_time=duration(max(detection.base_ejection_time, detection.max_ejection_time)),
        max_ejection_percent=_number(most),
        consecutive_5xx=_number(detection.consecutive_failures or 5),
        enforcing_consecutive_5xx=_number(100 if detection.consecutive_failures else 0),
        enforcing_consecutive_gateway_failure=_number(0),
        enforcing_success_rate=_number(rate.enforcement_percentage if rate else 0),
        enforcing_failure_percentage=_number(share.enforcement_percentage if share else 0),
    )
    if rate is not None:
        found.success_rate_stdev_factor.value = rate.stdev_factor
        found.success_rate_minimum_hosts.value = max(_COMPARED, rate.minimum_hosts)
        found.success_rate_request_volume.value = rate.request_volume
    if share is not None:
        found.failure_percentage_threshold.value = share.threshold
        found.failure_percentage_minimum_hosts.value = max(_COMPARED, share.minimum_hosts)
        found.failure_percentage_request_volume.value = share.request_volume
    return found


def _number(value: int) -> Any:
    return UInt32Value(value=value)
