"""Who takes the next call: pure, no I/O, no clock, no dice of its own."""

from meshkit.balancer.balancer import Balancer, Counts, Readiness
from meshkit.balancer.load import Load
from meshkit.balancer.policies import (
    DEFAULT_POLICY,
    POLICIES,
    Adaptive,
    Clock,
    Follower,
    LeastRequest,
    Node,
    PeakEwma,
    Picker,
    PickFirst,
    PickInfo,
    Policy,
    PowerOfTwo,
    Random,
    RoundRobin,
    WeightedRoundRobin,
    policy_named,
)

__all__ = [
    "DEFAULT_POLICY",
    "POLICIES",
    "Adaptive",
    "Balancer",
    "Clock",
    "Counts",
    "Follower",
    "LeastRequest",
    "Load",
    "Node",
    "PeakEwma",
    "PickFirst",
    "PickInfo",
    "Picker",
    "Policy",
    "PowerOfTwo",
    "Random",
    "Readiness",
    "RoundRobin",
    "WeightedRoundRobin",
    "policy_named",
]
