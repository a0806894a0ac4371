"""Who takes the next call: pure, no I/O, no clock, no dice of its own."""

from meshkit.balancer.balancer import Balancer
from meshkit.balancer.circuit import CircuitBreaker, InFlight
from meshkit.balancer.detection import (
    FAULTS,
    FailurePercentageEjection,
    OutlierDetection,
    SuccessRateEjection,
)
from meshkit.balancer.group import Group
from meshkit.balancer.load import Load
from meshkit.balancer.locality import ZoneAware
from meshkit.balancer.outlier import Ejected, Outcome, Readmitted
from meshkit.balancer.policies import (
    DEFAULT_POLICY,
    POLICIES,
    Adaptive,
    Clock,
    Follower,
    LeastRequest,
    Maglev,
    Node,
    PeakEwma,
    Picker,
    PickFirst,
    PickInfo,
    Policy,
    PowerOfTwo,
    Random,
    RingHash,
    RoundRobin,
    Sticky,
    WeightedRoundRobin,
    policy_named,
)
from meshkit.balancer.resilience import Resilience
from meshkit.balancer.selection import Selection
from meshkit.balancer.selector import EVERY, Selector
from meshkit.balancer.slow_start import SlowStart
from meshkit.balancer.states import Counts, Readiness
from meshkit.balancer.subset import Subsetting

__all__ = [
    "DEFAULT_POLICY",
    "EVERY",
    "FAULTS",
    "POLICIES",
    "Adaptive",
    "Balancer",
    "CircuitBreaker",
    "Clock",
    "Counts",
    "Ejected",
    "FailurePercentageEjection",
    "Follower",
    "Group",
    "InFlight",
    "LeastRequest",
    "Load",
    "Maglev",
    "Node",
    "Outcome",
    "OutlierDetection",
    "PeakEwma",
    "PickFirst",
    "PickInfo",
    "Picker",
    "Policy",
    "PowerOfTwo",
    "Random",
    "Readiness",
    "Readmitted",
    "Resilience",
    "RingHash",
    "RoundRobin",
    "Selection",
    "Selector",
    "SlowStart",
    "Sticky",
    "Subsetting",
    "SuccessRateEjection",
    "WeightedRoundRobin",
    "ZoneAware",
    "policy_named",
]
