"""Who takes the next call: pure, no I/O, no clock, no dice of its own."""

from meshkit.balancer.balancer import Balancer, Counts, Readiness
from meshkit.balancer.load import Load
from meshkit.balancer.policies import (
    POLICIES,
    Clock,
    Follower,
    Node,
    Picker,
    PickInfo,
    Policy,
    PowerOfTwo,
    RoundRobin,
    policy_named,
)

__all__ = [
    "POLICIES",
    "Balancer",
    "Clock",
    "Counts",
    "Follower",
    "Load",
    "Node",
    "PickInfo",
    "Picker",
    "Policy",
    "PowerOfTwo",
    "Readiness",
    "RoundRobin",
    "policy_named",
]
