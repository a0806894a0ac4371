"""What a client learns about one endpoint from its own calls: the load that pickers compare."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp
from typing import Final, final

from meshkit.orca import LoadReport

__all__ = ["Load", "Report"]

TAU: Final = 10.0
"""Seconds in which what was learnt loses all but 1/e of its weight, as in Finagle and Linkerd."""

PENALTY: Final = 1.0
"""Seconds that a failed call counts for beside those that it took.

A server that fails fast would look like the fastest of all; Linkerd's load biaser and brpc count
its failures as slow calls, too.
"""

# One call counts in the average as if it took at most so much: a pause of a process, which hits any
# endpoint by chance, is a long call after a long time, and would count for a hundred others.
_FAR: Final = 16.0  # times the average
_CHANCE: Final = 0.010  # and seconds

# In an average by time a call that ends so soon after another has next to no weight: of a node that
# is well and well known, most calls of a busy client need not be looked at.
_SOON: Final = TAU / 10_000
_WELL_KNOWN: Final = 1_000  # samples

# A connection's first call waits for more than the endpoint: of the first few the best counts. And
# while there are so few, one that was held up by chance would weigh most of all.
_FIRST: Final = 4
_FEW: Final = 64
_FAR_OF_FEW: Final = 4.0


@final
@dataclass(frozen=True, slots=True)
class Report:
    """What a server said of itself (gRFC A58).

    Attributes:
        rps: calls per second that it serves, of all clients.
        eps: those of them that fail, per second.
        utilization: 1.0 when it is fully used.
        since: the clock's seconds when it began to say so.
        at: the clock's seconds when it said this.
    """

    rps: float
    eps: float
    utilization: float
    since: float
    at: float


class Load:
    """The calls of this client at one endpoint: how many now, and how they went.

    A node may be one of these, so that pickers read its attributes directly. Averages are weighted
    by time: a call counts as much as the time since the one before it (at first: as each of those),
    so a burst does not wipe out what was known.

    Attributes:
        pending: calls under way now.
        finished: calls that ended, failed ones included.
        failed: calls that ended badly.
        cost: seconds that a call takes here on average, failed ones `PENALTY` more; 0.0 before the
            first one has ended. Of the first four the best counts; later, one call counts as if
            it took at most 16 times as much, and 4 times while there are few.
        peak: seconds that a call takes here, by the worst: it rises at once and falls slowly, as
            in Finagle's `PeakEwma`.
        success: share of the calls that ended well, 1.0 before the first one has ended.
        samples: calls that these figures come from; not every call of a busy client is looked at.
        seen: the clock's seconds when a call last told something; older is worth less.
        suspect: the last calls that ended are known to have failed: look at each one's end.
        report: what the server last said of its load; None if it never did.
    """

    __slots__ = (
        "_share",
        "cost",
        "failed",
        "finished",
        "peak",
        "pending",
        "report",
        "samples",
        "seen",
        "success",
        "suspect",
    )

    def __init__(self) -> None:
        self.pending = 0
        self.finished = 0
        self.failed = 0
        self.cost = 0.0
        self.peak = 0.0
        self.success = 1.0
        self.samples = 0
        self.seen = 0.0
        self.report: Report | None = None
        self._share = 1.0  # of the last call in the averages
        self.suspect = False

    @property
    def started(self) -> int:
        """All calls so far, those under way included."""
        return self.finished + self.pending

    @property
    def latency(self) -> float:
        """Seconds that a call takes here on average; 0.0 before the first one has ended."""
        return max(0.0, self.cost - PENALTY * (1.0 - self.success))

    def fresh(self, now: float) -> float:
        """How much of what was learnt still holds at `now`: 1.0 just after a call, later less.

        The longer an endpoint was left alone, the cheaper it looks, so that it is tried again.
        """
        return exp((self.seen - now) / TAU) if now > self.seen else 1.0

    def start(self) -> None:
        """Count a call that begins; `finish` must follow on every path."""
        self.pending += 1

    def finish(self, took: float | None, now: float) -> None:
        """Count the end of a call that was counted by `start`.

        Cancelled calls and those whose deadline passed count by the time they took, or the
        endpoint that everybody gives up on would look fast.

        Args:
            took: seconds from its start; None if they tell nothing about the endpoint: a stream
                lasts as long as its reader likes. Its first message does tell: see `respond`.
            now: the clock's seconds.
        """
        pending = self.pending
        if pending == 0:  # a call counted twice would make this endpoint look idle for ever
            raise RuntimeError("finish() without start()")
        self.pending = pending - 1
        self.finished += 1
        if took is not None and (
            now - self.seen >= _SOON
            or took > self.peak
            or self.success < 1.0
            or self.samples < _WELL_KNOWN
        ):
            self.respond(took, now)

    def respond(self, took: float, now: float) -> None:
        """Learn from the first response of a call; for streams, which `finish(None, ...)` ends.

        Args:
            took: seconds from the start of the call.
            now: the clock's seconds.
        """
        self.samples = samples = self.samples + 1
        share = 1.0 - exp((self.seen - now) / TAU)
        if share * samples < 1.0:
            share = 1.0 / samples
        self.seen = now
        self._share = share
        if samples > _FIRST:
            cost = self.cost
            most = _FAR * cost + _CHANCE if samples > _FEW else _FAR_OF_FEW * cost
            self.cost = cost + share * (min(most, took) - cost)
            if self.success < 1.0:
                self.success += share * (1.0 - self.success)
        else:
            best = took if samples == 1 else min(took, self.latency)
            self.success += share * (1.0 - self.success)
            self.cost = best + PENALTY * (1.0 - self.success)
        peak = self.peak
        self.peak = took if took > peak else peak + share * (took - peak)

    def fail(self) -> None:
        """A call that has finished turns out to have ended badly, and it was the endpoint's fault.

        Said apart from `finish`: asking grpc.aio for a status costs as much as all the rest, and a
        call whose response is awaited tells a failure by itself. Answers that are the caller's
        business, such as NOT_FOUND, are no failures.
        """
        self.failed += 1
        self.cost += self._share * PENALTY
        self.success = max(0.0, self.success - self._share)

    def tell(self, said: LoadReport, now: float) -> None:
        """Keep what the server says of itself at the end of a call.

        One that cannot be used, with a rate or a utilization of 0, is as good as none (gRFC A58).
        """
        utilization = said.application_utilization or said.cpu_utilization
        if said.rps > 0.0 and utilization > 0.0:
            since = now if self.report is None else self.report.since
            self.report = Report(said.rps, said.eps, utilization, since, now)

    def __repr__(self) -> str:
        return f"<Load: {self.pending} of {self.started} pending, {self.failed} failed>"
