"""Outliers: which nodes fail so much that calls should go to others, and when to try them again.

Evidence is cheap where all goes well: a node's successes are its finished calls less its failures,
and are asked for only when something fails. A node on which a call has failed is a *suspect* until
one succeeds: only then is each call's end looked at.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, count, islice
from typing import Final, Generic, TypeAlias, TypeVar, final

from meshkit.balancer.detection import OutlierDetection
from meshkit.balancer.policies.policy import Node
from meshkit.balancer.selector import Selector

__all__ = ["Ejected", "Outcome", "Outliers", "Readmitted"]

N = TypeVar("N", bound=Node)

_NO_EVIDENCE: Final = frozenset({"CANCELLED", "RESOURCE_EXHAUSTED"})


@final
@dataclass(frozen=True, slots=True)
class Ejected(Generic[N]):
    """A node gets no calls from now on, for `seconds`, and then a single one; `reason` says why."""

    node: N
    seconds: float
    reason: str


@final
@dataclass(frozen=True, slots=True)
class Readmitted(Generic[N]):
    """A node that was ejected has answered a call, and takes part again; after `seconds`."""

    node: N
    seconds: float


Outcome: TypeAlias = Ejected[N] | Readmitted[N]


@final
class _Record:
    """What is held against a node; one that has never failed has none."""

    __slots__ = (
        "began",
        "ejections",
        "failures",
        "is_probed",
        "neutral",
        "severity",
        "since",
        "streak",
    )

    def __init__(self) -> None:
        self.streak = 0  # failures since the last success
        self.failures = 0  # in this interval
        self.neutral = 0  # ends that say nothing, in this interval
        self.ejections = 0  # in all
        self.severity = 0.0  # how often the ejection time doubles; lived down with time
        self.began = 0.0  # the time of the last ejection
        self.since = float("-inf")  # calls sent earlier say nothing any more
        self.is_probed = False  # ejected, and a call was let through to see how it is


@final
class Outliers(Generic[N]):
    """Judges nodes by the ends of their calls; remembers who is ejected.

    Args:
        rng: the die.
        ready: the connected nodes that are not ejected; kept up to date by the owner.
        out: the connected nodes that are.

    Attributes:
        detection: the rules.
        ejected: when each of those who are may be sent a call, connected or not.
    """

    __slots__ = (
        "_due",
        "_ends",
        "_finished",
        "_order",
        "_out",
        "_ready",
        "_records",
        "_rng",
        "detection",
        "ejected",
    )

    def __init__(
        self,
        detection: OutlierDetection,
        rng: random.Random,
        *,
        ready: Sequence[N],
        out: Sequence[N],
    ) -> None:
        self.ejected: dict[N, float] = {}
        self.detection = detection
        self._rng = rng
        self._ready = ready
        self._out = out
        self._records: dict[N, _Record] = {}
        self._due: list[tuple[float, int, N]] = []  # a heap; some entries are out of date
        self._order = count()
        self._ends = math.inf  # when this interval does
        self._finished: dict[N, int] = {}  # calls of each node when it began

    def ejections(self, node: N) -> int:
        """How often `node` was ejected."""
        record = self._records.get(node)
        return record.ejections if record is not None else 0

    def forget(self, node: N) -> None:
        """Drop what is known of a node that is no longer part of the service."""
        self._records.pop(node, None)
        self._finished.pop(node, None)
        self.ejected.pop(node, None)

    # ---- the way back

    def expect(self, node: N) -> None:
        """An ejected node is connected: it is tried when its time has come."""
        heapq.heappush(self._due, (self.ejected[node], next(self._order), node))

    def due(self, now: float, selector: Selector) -> N | None:
        """The ejected node that has to be tried with the next call, if it is time for one.

        When nothing is heard of that call for the base ejection time, another one follows.

        Args:
            now: the time.
            selector: whom the call may go to.
        """
        node = self._first_due(now, selector)
        if node is not None:
            record = self._records[node]
            if not record.is_probed:
                record.is_probed, record.since = True, now
            self._wait(node, now + self.detection.base_ejection_time)
        return node

    def is_due(self, now: float, selector: Selector) -> bool:
        """Whether there is such a node."""
        return self._first_due(now, selector) is not None

    def _first_due(self, now: float, selector: Selector) -> N | None:
        others: list[tuple[float, int, N]] = []
        found = None
        while found is None and self._due and self._due[0][0] <= now:
            at, order, node = heapq.heappop(self._due)
            if self.ejected.get(node) == at and node in self._out:
                others.append((at, order, node))
                found = node if selector.takes(node.endpoint) else None
        for other in others:
            heapq.heappush(self._due, other)
        return found

    def _wait(self, node: N, until: float) -> None:
        self.ejected[node] = until
        self.expect(node)

    # ---- evidence

    def hear(self, node: N, code: str, sent_at: float, now: float) -> list[Outcome[N]]:
        """A call to `node` that was sent at `sent_at` has ended with `code`; what follows of it.

        Of a suspect the end of every call is heard, of others at least the failures.
        """
        failed = code in self.detection.failure_codes
        record = self._records.get(node)
        if record is None:
            if not failed:
                return []
            record = self._records[node] = _Record()
        if sent_at < record.since:
            return []
        if node in self.ejected:
            return self._hear_of_probe(node, record, code, now) if record.is_probed else []
        if not failed:
            self._absolve(node, record, code)
            return []
        return self._accuse(node, record, code, now)

    def _hear_of_probe(self, node: N, record: _Record, code: str, now: float) -> list[Outcome[N]]:
        if code in self.detection.failure_codes:
            return [self._eject(node, now, f"tried again, it ended the call with {code}")]
        if code in _NO_EVIDENCE:
            self._wait(node, now)  # the next call will tell
            return []
        del self.ejected[node]
        record.streak = record.failures = record.neutral = 0
        record.is_probed = node.suspect = False
        record.since = now
        self._finished[node] = node.finished
        return [Readmitted(node, now - record.began)]

    def _absolve(self, node: N, record: _Record, code: str) -> None:
        if code in _NO_EVIDENCE:
            record.neutral += 1
        else:
            record.streak = 0
            node.suspect = False

    def _accuse(self, node: N, record: _Record, code: str, now: float) -> list[Outcome[N]]:
        if self._ends == math.inf:
            self._begin_interval(now)
        record.failures += 1
        record.streak += 1
        node.suspect = True
        most = self.detection.consecutive_failures
        if 0 < most <= record.streak and self._room() > 0 and node in self._ready:
            return [self._eject(node, now, f"{record.streak} failures in a row, the last {code}")]
        if now < self._ends:
            return []
        found = islice(self._outliers(), self._room())
        ejected: list[Outcome[N]] = [self._eject(node, now, reason) for node, reason in found]
        self._begin_interval(now)
        return ejected

    def _room(self) -> int:
        """How many more nodes may be ejected now; less than those that are, after others left."""
        most = self.detection.most_ejected(len(self._ready) + len(self._out))
        return max(0, most - len(self._out))

    def _eject(self, node: N, now: float, reason: str) -> Ejected[N]:
        record = self._records[node]
        if node not in self.ejected:
            record.began = now
            lived_down = (now - record.since) / self.detection.interval
            record.severity = max(0.0, record.severity - lived_down)
        seconds = self.detection.ejection_time(record.severity, self._rng)
        record.severity += 1
        record.ejections += 1
        record.is_probed = False
        record.since = now
        node.suspect = True
        self.ejected[node] = now + seconds
        return Ejected(node, seconds, reason)

    # ---- comparison, at the end of an interval

    def _begin_interval(self, now: float) -> None:
        self._ends = now + self.detection.interval
        self._finished = {node: node.finished for node in chain(self._ready, self._out)}
        for record in self._records.values():
            record.failures = record.neutral = 0

    def _outliers(self) -> Iterator[tuple[N, str]]:
        """Who is one by any rule and a throw of the die, and why."""
        calls = {node: self._calls(node) for node in self._ready}
        found: dict[N, str] = {}
        for rule in (
            self.detection.success_rate_ejection,
            self.detection.failure_percentage_ejection,
        ):
            if rule is not None:
                chance = rule.enforcement_percentage / 100
                found |= {n: why for n, why in rule.outliers(calls) if self._rng.random() < chance}
        return iter(found.items())

    def _calls(self, node: N) -> tuple[int, int]:
        """How many calls of this interval say something, and how many of those failed."""
        ended = node.finished - self._finished.get(node, 0)
        record = self._records.get(node)
        if record is None:
            return ended, 0
        return max(ended - record.neutral, record.failures), record.failures
