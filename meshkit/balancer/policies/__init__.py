"""Policies: which of the ready nodes takes the next call. One module a family."""

from meshkit.balancer.policies.adaptive import Adaptive
from meshkit.balancer.policies.least_request import LeastRequest
from meshkit.balancer.policies.maglev import Maglev
from meshkit.balancer.policies.names import DEFAULT_POLICY, POLICIES, policy_named
from meshkit.balancer.policies.p2c import PeakEwma, PowerOfTwo
from meshkit.balancer.policies.plain import PickFirst, Random
from meshkit.balancer.policies.policy import Clock, Follower, Node, Picker, PickInfo, Policy
from meshkit.balancer.policies.ring_hash import RingHash
from meshkit.balancer.policies.round_robin import RoundRobin, WeightedRoundRobin
from meshkit.balancer.policies.sticky import Sticky

__all__ = [
    "DEFAULT_POLICY",
    "POLICIES",
    "Adaptive",
    "Clock",
    "Follower",
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
    "RingHash",
    "RoundRobin",
    "Sticky",
    "WeightedRoundRobin",
    "policy_named",
]
