"""Who takes the next call: pure, no I/O, no clock, no dice of its own."""

from meshkit.balancer.balancer import Balancer, Counts, Readiness
from meshkit.balancer.load import PendingCalls
from meshkit.balancer.pickers import (
    Node,
    Picker,
    PickerFactory,
    PowerOfTwo,
    RoundRobin,
    picker_named,
)

__all__ = [
    "Balancer",
    "Counts",
    "Node",
    "PendingCalls",
    "Picker",
    "PickerFactory",
    "PowerOfTwo",
    "Readiness",
    "RoundRobin",
    "picker_named",
]
