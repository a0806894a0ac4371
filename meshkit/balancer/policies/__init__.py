"""Policies: which of the ready nodes takes the next call. One module a family."""

from meshkit.balancer.policies.names import POLICIES, policy_named
from meshkit.balancer.policies.p2c import PowerOfTwo
from meshkit.balancer.policies.policy import Clock, Follower, Node, Picker, PickInfo, Policy
from meshkit.balancer.policies.round_robin import RoundRobin

__all__ = [
    "POLICIES",
    "Clock",
    "Follower",
    "Node",
    "PickInfo",
    "Picker",
    "Policy",
    "PowerOfTwo",
    "RoundRobin",
    "policy_named",
]
