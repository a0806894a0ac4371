"""How figures are summed up and shown: always with their spread."""

from __future__ import annotations

import statistics
from collections.abc import Sequence


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def spread(values: Sequence[float], form: str = "5.2f") -> str:
    """`1.04 (0.98-1.10)`: the median and the quartiles; of fewer than 4 values, the extremes."""
    middle, low, high = statistics.median(values), min(values), max(values)
    if len(values) >= 4:
        low, _, high = statistics.quantiles(values, n=4)
    plain = form.lstrip("0123456789")
    return f"{middle:{form}} ({low:{plain}}-{high:{plain}})"


def verdict(reached: bool) -> str:
    """How a target is marked."""
    return "reached" if reached else "NOT REACHED"
