"""Policies by the names that configurations use."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from meshkit.balancer.policies.adaptive import Adaptive
from meshkit.balancer.policies.least_request import LeastRequest
from meshkit.balancer.policies.maglev import Maglev
from meshkit.balancer.policies.p2c import PeakEwma, PowerOfTwo
from meshkit.balancer.policies.plain import PickFirst, Random
from meshkit.balancer.policies.policy import Policy
from meshkit.balancer.policies.ring_hash import RingHash
from meshkit.balancer.policies.round_robin import RoundRobin, WeightedRoundRobin
from meshkit.balancer.policies.sticky import Sticky
from meshkit.errors import ConfigError

__all__ = ["DEFAULT_POLICY", "POLICIES", "policy_named"]

DEFAULT_POLICY: Final = "adaptive"

POLICIES: Final[Mapping[str, type[Policy]]] = MappingProxyType(
    {
        "adaptive": Adaptive,
        "round_robin": RoundRobin,
        "weighted_round_robin": WeightedRoundRobin,
        "random": Random,
        "least_request": LeastRequest,
        "least_request_experimental": LeastRequest,  # as gRPC's Java and Go call it (gRFC A48)
        "p2c": PowerOfTwo,
        "p2c_ewma": PeakEwma,
        "pick_first": PickFirst,
        "ring_hash": RingHash,
        "ring_hash_experimental": RingHash,  # as gRPC calls it (gRFC A42)
        "maglev": Maglev,
        "sticky": Sticky,
    }
)
"""Frozen dataclasses by name; their fields are the parameters that a service config may give.

A policy with two names stands with that first by which it is to be written.
"""


def policy_named(name: str) -> Policy:
    """The policy that a configuration calls `name`, with its default parameters.

    Raises:
        ConfigError: there is none; the text lists those there are.
    """
    try:
        return POLICIES[name]()
    except KeyError:
        raise ConfigError(f"no balancing policy {name!r}; use one of {sorted(POLICIES)}") from None
