"""What a balancer does around the policy's choice, as configured."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import final

from meshkit.balancer.circuit import CircuitBreaker
from meshkit.balancer.detection import OutlierDetection
from meshkit.balancer.slow_start import SlowStart

__all__ = ["Resilience"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Resilience:
    """Who gets fewer calls than the policy would give them, and when there are too many calls.

    Attributes:
        outlier_detection: nodes whose calls fail get none for a while.
        circuit_breaker: how many calls are under way at a time.
        slow_start: new nodes begin with a part of their share.
    """

    outlier_detection: OutlierDetection = field(default_factory=OutlierDetection)
    circuit_breaker: CircuitBreaker = field(default_factory=CircuitBreaker)
    slow_start: SlowStart = field(default_factory=SlowStart)
