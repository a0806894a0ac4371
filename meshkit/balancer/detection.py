"""Outlier detection, as configured: when a node is ejected, and for how long."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import fmean, pstdev
from typing import Annotated, Final, TypeAlias, TypeVar, final

from meshkit.fields import Duration, FieldError, Integer, StatusCodes, check

__all__ = ["FAULTS", "FailurePercentageEjection", "OutlierDetection", "SuccessRateEjection"]

N = TypeVar("N")

_FAILURES: Final = frozenset(
    {"UNAVAILABLE", "INTERNAL", "UNKNOWN", "DATA_LOSS", "DEADLINE_EXCEEDED"}
)

FAULTS: Final = _FAILURES | {"RESOURCE_EXHAUSTED"}
"""Names of the status codes that are an endpoint's fault rather than the caller's business."""


Percent: TypeAlias = Annotated[int, Integer(0, 100)]
Positive: TypeAlias = Annotated[int, Integer(1)]
SomeTime: TypeAlias = Annotated[float, Duration(above=0)]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class SuccessRateEjection:
    """Ejects who succeeds clearly less often than the others (gRFC A50).

    Attributes:
        stdev_factor: thousandths of a standard deviation below the mean of all nodes at which a
            node is ejected.
        enforcement_percentage: chance, in percent, that it really is.
        minimum_hosts: nodes that must have `request_volume`, or nothing is compared.
        request_volume: calls in an interval that a node needs to be compared.
    """

    stdev_factor: Positive = 1900
    enforcement_percentage: Percent = 100
    minimum_hosts: Positive = 5
    request_volume: Positive = 100

    def __post_init__(self) -> None:
        check(self)

    def outliers(self, calls: Mapping[N, tuple[int, int]]) -> Iterator[tuple[N, str]]:
        """Who of `calls`, (ended, failed) in an interval, is one, and why."""
        rates = {
            node: 1.0 - failed / ended
            for node, (ended, failed) in calls.items()
            if ended >= self.request_volume
        }
        if len(rates) < self.minimum_hosts:
            return
        mean = fmean(rates.values())
        least = mean - pstdev(rates.values(), mean) * self.stdev_factor / 1000
        for node, rate in rates.items():
            if rate < least:
                yield node, f"{rate:.0%} of its calls succeeded, {mean:.0%} on the average"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class FailurePercentageEjection:
    """Ejects who fails more than a share of its calls (gRFC A50; our numbers fit small fleets).

    Attributes:
        threshold: percent of failed calls in an interval above which a node is ejected.
        enforcement_percentage: chance, in percent, that it really is.
        minimum_hosts: nodes that must have `request_volume`, or nobody is judged.
        request_volume: calls in an interval that a node needs to be judged.
    """

    threshold: Percent = 50
    enforcement_percentage: Percent = 100
    minimum_hosts: Positive = 1
    request_volume: Positive = 10

    def __post_init__(self) -> None:
        check(self)

    def outliers(self, calls: Mapping[N, tuple[int, int]]) -> Iterator[tuple[N, str]]:
        """Who of `calls`, (ended, failed) in an interval, is one, and why."""
        judged = [
            (node, ended, failed)
            for node, (ended, failed) in calls.items()
            if ended >= self.request_volume
        ]
        if len(judged) < self.minimum_hosts:
            return
        for node, ended, failed in judged:
            if 100 * failed > self.threshold * ended:
                yield node, f"{failed} of its {ended} calls failed"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class OutlierDetection:
    """When a node gets no calls because of how its calls went, and for how long.

    The fields that gRFC A50 knows have its names. Its numbers need five nodes and hundreds of
    calls before anything happens; ours are those of Finagle and Linkerd, which work for three.

    Attributes:
        interval: seconds over which successes and failures are compared.
        base_ejection_time: seconds of the first ejection; each one that follows is twice as long.
        max_ejection_time: seconds of the longest.
        max_ejection_percent: share of the connected nodes that may be ejected at a time, in
            percent; one of several always may.
        consecutive_failures: failures in a row that eject a node; 0: no number does.
        success_rate_ejection: comparison with the others; None: there is none.
        failure_percentage_ejection: share of failures; None: none is too large.
        panic_threshold: percent of the connected nodes below which those that are not ejected
            are too few, and ejection is ignored; 0: never.
        failure_codes: names of the status codes that count as a failure of the node. Others are
            an answer, as good as OK, except for RESOURCE_EXHAUSTED and CANCELLED, which say
            nothing: a node that sheds load needs fewer calls, not none, and who gave up may have
            had any reason.
    """

    interval: SomeTime = 10.0
    base_ejection_time: SomeTime = 5.0
    max_ejection_time: SomeTime = 300.0
    max_ejection_percent: Percent = 50
    consecutive_failures: Annotated[int, Integer(0)] = 5
    success_rate_ejection: SuccessRateEjection | None = None
    failure_percentage_ejection: FailurePercentageEjection | None = FailurePercentageEjection()
    panic_threshold: Percent = 50
    failure_codes: StatusCodes = _FAILURES

    def __post_init__(self) -> None:
        check(self)
        if "OK" in self.failure_codes:
            raise FieldError("failure_codes", "must not contain OK")

    def ejection_time(self, severity: float, rng: random.Random) -> float:
        """Seconds of an ejection, doubled `severity` times; up to a quarter more by chance."""
        longest = max(self.base_ejection_time, self.max_ejection_time)
        growing = self.base_ejection_time * math.exp2(min(severity, 64.0))
        return min(longest, growing * rng.uniform(1.0, 1.25))

    def most_ejected(self, connected: int) -> int:
        """How many of `connected` nodes may be ejected at a time: of a single one, none."""
        if connected < 2 or self.max_ejection_percent == 0:
            return 0
        return max(1, connected * self.max_ejection_percent // 100)

    def is_panic(self, ready: int, ejected: int) -> bool:
        """Whether `ready` nodes are too few to go without the `ejected` ones."""
        return 100 * ready < self.panic_threshold * (ready + ejected)
