"""Balancing policies in xDS: a list for each family, of which a client takes the first it knows.

Every list ends with round robin, which all know: a client refuses a cluster of whose list it knows
nothing. Source: gRFC A52; A42, A48, A58, A62 for single policies.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from envoy.config.cluster.v3.cluster_pb2 import LoadBalancingPolicy
from envoy.extensions.load_balancing_policies.client_side_weighted_round_robin.v3 import (
    client_side_weighted_round_robin_pb2 as client_side,
)
from envoy.extensions.load_balancing_policies.common.v3 import common_pb2 as common
from envoy.extensions.load_balancing_policies.least_request.v3.least_request_pb2 import (
    LeastRequest as LeastRequestMessage,
)
from envoy.extensions.load_balancing_policies.maglev.v3.maglev_pb2 import Maglev as MaglevMessage
from envoy.extensions.load_balancing_policies.pick_first.v3.pick_first_pb2 import (
    PickFirst as PickFirstMessage,
)
from envoy.extensions.load_balancing_policies.random.v3.random_pb2 import Random as RandomMessage
from envoy.extensions.load_balancing_policies.ring_hash.v3.ring_hash_pb2 import (
    RingHash as RingHashMessage,
)
from envoy.extensions.load_balancing_policies.round_robin.v3.round_robin_pb2 import (
    RoundRobin as RoundRobinMessage,
)
from envoy.extensions.load_balancing_policies.wrr_locality.v3.wrr_locality_pb2 import WrrLocality
from google.protobuf.duration_pb2 import Duration
from google.protobuf.wrappers_pb2 import UInt32Value, UInt64Value

from meshkit.balancer import (
    Adaptive,
    LeastRequest,
    Maglev,
    PeakEwma,
    PickFirst,
    Policy,
    PowerOfTwo,
    Random,
    RingHash,
    SlowStart,
    Sticky,
    WeightedRoundRobin,
)
from meshkit.xds.resources import pack

__all__ = ["duration", "envoy_policies", "grpc_policies", "hash_header"]

_EXTENSIONS: Final = "envoy.load_balancing_policies"
_TWO: Final = PowerOfTwo | PeakEwma
_MOST_CHOICES: Final = 10


def hash_header(policy: Policy | None) -> str:
    """The header whose value decides where calls go; empty: none, or a function that we lack."""
    key = policy.key if isinstance(policy, RingHash | Maglev | Sticky) else ""
    return key if isinstance(key, str) else ""


def grpc_policies(policy: Policy | None) -> Any:
    """The list for gRPC's clients, which split calls over localities before endpoints."""
    if isinstance(policy, RingHash | Maglev | Sticky):
        return _list([_ring_hash(policy), _by_locality([_round_robin()])])
    if isinstance(policy, PickFirst):
        first = PickFirstMessage(shuffle_address_list=policy.shuffle_address_list)
        return _list([("pick_first", first), _by_locality([_round_robin()])])
    if isinstance(policy, Adaptive | WeightedRoundRobin):
        # Servers that report nothing are equal to it.
        return _list([_by_locality([_client_side(policy), _round_robin()])])
    if isinstance(policy, LeastRequest | _TWO):
        return _list([_by_locality([_least_request(policy), _round_robin()])])
    return _list([_by_locality([_round_robin()])])


def envoy_policies(policy: Policy | None, slow_start: SlowStart | None, *, zoned: bool) -> Any:
    """The list for Envoy.

    Args:
        policy: what is configured.
        slow_start: of new endpoints.
        zoned: whether localities have shares, which Envoy looks at only if it is told to.
    """
    locality = common.LocalityLbConfig()
    if zoned:
        locality.locality_weighted_lb_config.SetInParent()
    slow = _slow_start(slow_start)
    fallback = RoundRobinMessage(slow_start_config=slow, locality_lb_config=locality)
    last = ("round_robin", fallback)
    if isinstance(policy, RingHash):
        return _list([_ring_hash(policy), last])
    if isinstance(policy, Maglev | Sticky):
        return _list([_maglev(policy), last])
    if isinstance(policy, Random):
        return _list([("random", RandomMessage(locality_lb_config=locality)), last])
    if isinstance(policy, WeightedRoundRobin):
        return _list([_client_side(policy), last])
    if isinstance(policy, Adaptive | LeastRequest | _TWO):
        name, message = _least_request(policy)
        message.slow_start_config.CopyFrom(slow)
        message.locality_lb_config.CopyFrom(locality)
        return _list([(name, message), last])
    return _list([last])


def duration(seconds: float) -> Any:
    """`seconds`, to a nanosecond."""
    found = Duration()
    found.FromNanoseconds(round(seconds * 1e9))
    return found


def _list(policies: Iterable[tuple[str, Any]]) -> Any:
    found = LoadBalancingPolicy()
    for name, message in policies:
        extension = found.policies.add().typed_extension_config
        extension.name = f"{_EXTENSIONS}.{name}"
        extension.typed_config.CopyFrom(pack(message))
    return found


def _by_locality(policies: Iterable[tuple[str, Any]]) -> tuple[str, Any]:
    return "wrr_locality", WrrLocality(endpoint_picking_policy=_list(policies))


def _round_robin() -> tuple[str, Any]:
    return "round_robin", RoundRobinMessage()


def _client_side(policy: Adaptive | WeightedRoundRobin) -> tuple[str, Any]:
    message = client_side.ClientSideWeightedRoundRobin()
    if isinstance(policy, WeightedRoundRobin):
        message.blackout_period.CopyFrom(duration(policy.blackout_period))
        message.weight_expiration_period.CopyFrom(duration(policy.weight_expiration_period))
        message.error_utilization_penalty.value = policy.error_utilization_penalty
    return "client_side_weighted_round_robin", message


def _least_request(policy: Policy) -> tuple[str, Any]:
    message = LeastRequestMessage()
    if isinstance(policy, LeastRequest):
        message.choice_count.value = min(policy.choice_count, _MOST_CHOICES)
        message.active_request_bias.default_value = policy.active_request_bias
        message.active_request_bias.runtime_key = "meshkit.active_request_bias"
    return "least_request", message


def _ring_hash(policy: RingHash | Maglev | Sticky) -> tuple[str, Any]:
    message = RingHashMessage(hash_function=RingHashMessage.XX_HASH)
    # Defaults are not said: grpc-js refuses whatever is, and the least is the same there.
    default = RingHash()
    sizes = policy if isinstance(policy, RingHash) else default
    if sizes.min_ring_size != default.min_ring_size:
        message.minimum_ring_size.value = sizes.min_ring_size
    if sizes.max_ring_size != default.max_ring_size:
        message.maximum_ring_size.value = sizes.max_ring_size
    _bound(message, policy)
    return "ring_hash", message


def _maglev(policy: Maglev | Sticky) -> tuple[str, Any]:
    sizes = policy if isinstance(policy, Maglev) else Maglev()
    message = MaglevMessage(table_size=UInt64Value(value=sizes.table_size))
    _bound(message, policy)
    return "maglev", message


def _bound(message: Any, policy: Policy) -> None:
    factor = getattr(policy, "hash_balance_factor", None)
    if factor is not None:
        message.consistent_hashing_lb_config.hash_balance_factor.CopyFrom(UInt32Value(value=factor))


def _slow_start(slow_start: SlowStart | None) -> Any:
    found = common.SlowStartConfig()
    if slow_start is None or not slow_start.window:
        return found
    found.slow_start_window.CopyFrom(duration(slow_start.window))
    found.aggression.default_value = slow_start.aggression
    found.aggression.runtime_key = "meshkit.slow_start_aggression"
    found.min_weight_percent.value = slow_start.min_weight_percent
    return found
