"""A server as a queue: so many workers, in virtual time, behind a limiter."""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque
from dataclasses import dataclass, field


@dataclass
class Phase:
    """What happens for some seconds.

    Attributes:
        seconds: how long.
        rate: calls that arrive per second, at random.
        workers: calls that are worked on at a time.
        work: seconds of work per call, by method; drawn from an exponential distribution.
        lag: how late the loop runs, all the time.
    """

    seconds: float
    rate: float
    workers: int
    work: dict[str, float] = field(default_factory=lambda: {"/a/B": 0.02})
    lag: float = 0.0


@dataclass
class Seen:
    """What came out of a phase."""

    offered: int = 0
    refused: int = 0
    latencies: list[float] = field(default_factory=list)
    limits: list[int] = field(default_factory=list)  # at each arrival

    def within(self, seconds: float) -> int:
        return sum(latency <= seconds for latency in self.latencies)

    @property
    def limit(self) -> float:
        """The mean limit in the second half."""
        half = self.limits[len(self.limits) // 2 :]
        return sum(half) / len(half)


class World:
    """Runs phases one after the other; calls left over from one end in the next."""

    def __init__(self, make_limiter, seed: int) -> None:
        self.rng = random.Random(seed)
        self.lag = 0.0
        self.limiter = make_limiter(random.Random(seed + 1), lambda: self.lag)
        self.now = 0.0
        self._ends: list = []
        self._queue: deque = deque()
        self._busy = 0
        self._ids = itertools.count()

    def run(self, phase: Phase) -> Seen:
        seen, self.lag = Seen(), phase.lag
        until = self.now + phase.seconds
        arrival = self.now + self.rng.expovariate(phase.rate)
        self._work(phase)
        while True:
            ends = self._ends[0][0] if self._ends else float("inf")
            if min(ends, arrival) > until:
                self.now = until
                return seen
            if ends <= arrival:
                self._end(seen, phase)
            else:
                self.now = arrival
                arrival += self.rng.expovariate(phase.rate)
                self._arrive(seen, phase)

    def _arrive(self, seen: Seen, phase: Phase) -> None:
        seen.offered += 1
        seen.limits.append(self.limiter.limit)
        place = self.limiter.enter(self.now)
        if place is None:
            seen.refused += 1
            return
        self._queue.append((place, self.rng.choice(list(phase.work))))
        self._work(phase)

    def _work(self, phase: Phase) -> None:
        while self._queue and self._busy < phase.workers:
            place, method = self._queue.popleft()
            self._busy += 1
            end = self.now + self.rng.expovariate(1 / phase.work[method])
            heapq.heappush(self._ends, (end, next(self._ids), place, method))

    def _end(self, seen: Seen, phase: Phase) -> None:
        self.now, _, place, method = heapq.heappop(self._ends)
        self._busy -= 1
        self.limiter.leave(place, method, self.now)
        seen.latencies.append(self.now - place.began)
        self._work(phase)
