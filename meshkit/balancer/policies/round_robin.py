"""In turn: evenly, by registry weights, or by what the servers report of their load."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, final

from meshkit.balancer.policies.policy import Clock, N, Node, PickInfo
from meshkit.balancer.policies.weighted import Rotation, place_behind
from meshkit.fields import Duration, Number, Seconds, check

__all__ = ["RoundRobin", "WeightedRoundRobin"]


@final
@dataclass(frozen=True, slots=True)
class RoundRobin:
    """Takes the nodes in turn: exactly even over a set that stays the same.

    The start is random, or all clients of a new deployment would begin with one server. When the
    set changes the turn goes on behind the endpoint that was picked last, in order of id: nobody
    who stays is skipped or picked twice in a round. Weights other than 0 are not looked at.
    """

    def picker(self, rng: random.Random, now: Clock) -> _Turn:  # noqa: ARG002
        """The picker of one client."""
        return _Turn(rng)


@final
class _Turn:
    __slots__ = ("_next", "_ready", "_rng")

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._ready: Sequence[Node] = ()
        self._next = 0

    def pick(self, ready: Sequence[N], info: PickInfo) -> N:  # noqa: ARG002
        """Choose the node whose turn it is."""
        if ready is not self._ready:
            self._next = self._turn_in(ready)
            self._ready = ready
        node = ready[self._next]
        self._next = (self._next + 1) % len(ready)
        return node

    def _turn_in(self, ready: Sequence[Node]) -> int:
        if not self._ready:
            return self._rng.randrange(len(ready))
        return place_behind(self._ready[self._next - 1], ready) % len(ready)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class WeightedRoundRobin:
    """Takes the nodes in turn, each as often as its weight says.

    A weight is what the server reported last (gRFC A58): the calls that it serves per second, over
    how busy it is with them. Nodes that have reported nothing that can be used count as the mean
    of the others; while fewer than two have, all go by their weight in the registry. With equal
    weights this is `round_robin`.

    Attributes:
        blackout_period: seconds for which a server has to report before it is believed; a new one
            has too few calls to know.
        weight_expiration_period: seconds after which a report is too old.
        error_utilization_penalty: how busy a server counts for each failed call among those it
            serves, or one that fails fast would look idle.
    """

    # Reports come with the answers, and each counts at once.
    WITHOUT_EFFECT: ClassVar = ("enableOobLoadReport", "oobReportingPeriod", "weightUpdatePeriod")

    reads_reports: ClassVar[bool] = True

    blackout_period: Seconds = 10.0
    weight_expiration_period: Annotated[float, Duration(above=0)] = 180.0
    error_utilization_penalty: Annotated[float, Number(0)] = 1.0

    def __post_init__(self) -> None:
        check(self)

    def picker(self, rng: random.Random, now: Clock) -> _WeightedTurn:
        """The picker of one client."""
        return _WeightedTurn(self, rng, now)


@final
class _WeightedTurn:
    """The rotation by reported weights, or by those of the registry while too few are known.

    How many are known, and their mean, is what one round saw: to look at all nodes at once would
    cost too much where there are many.
    """

    __slots__ = ("_known", "_looks", "_mean", "_now", "_policy", "_rotation", "_time", "_total")

    def __init__(self, policy: WeightedRoundRobin, rng: random.Random, now: Clock) -> None:
        self._policy = policy
        self._now = now
        self._rotation = Rotation(rng, self._weight)
        self._time = 0.0
        self._mean = 0.0  # of the reported weights in the round before; 0.0: too few
        self._looks = self._known = 0  # in this round
        self._total = 0.0

    def pick(self, ready: Sequence[N], info: PickInfo) -> N:  # noqa: ARG002
        """Choose the node whose turn it is."""
        self._time = self._now()
        if self._looks >= len(ready):
            self._mean = self._total / self._known if self._known > 1 else 0.0
            self._looks = self._known = 0
            self._total = 0.0
        return self._rotation.turn(ready)

    def _weight(self, node: Node) -> float:
        reported = self._reported(node)
        self._looks += 1
        if reported:
            self._known += 1
            self._total += reported
        return (reported or self._mean) if self._mean else node.endpoint.weight

    def _reported(self, node: Node) -> float:
        """The weight by the last report; 0.0 without one that can be used."""
        report = node.report
        if report is None:
            return 0.0
        if self._time >= report.at + self._policy.weight_expiration_period:
            node.report = None  # so that the next one begins a blackout
            return 0.0
        if self._time < report.since + self._policy.blackout_period:
            return 0.0
        failing = report.eps / report.rps * self._policy.error_utilization_penalty
        return report.rps / (report.utilization + failing)
