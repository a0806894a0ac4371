"""What a fault of the registry must come to, whichever it is: nothing that a caller could see.

A `Fault` is a block: what comes before its `yield` hurts, and ends when the registry is back, or as
well as it will be; what comes after it heals the rest. Between the two, somebody announces one more
endpoint, and the scenario sees when the servers stand in etcd, and when the clients know the news.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from tests.faults.fleet import Fleet, Size
from tests.faults.outcome import Outcome
from tests.faults.program import wait_until
from tests.faults.registry import Setup

__all__ = ["Fault", "outage", "undergo"]

Hurt: TypeAlias = Callable[[Fleet], AbstractContextManager[None]]

_RENEWAL: Final = 1.0  # seconds, beyond a third of the TTL, in which a server is announced again
_AGREE: Final = 30.0  # seconds, before a scenario gives up; what is promised is less
_CALM: Final = 1.0  # seconds without any server missing: all are there
_NOISE: Final = 1.5  # seconds; the machine may have other things to do


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing that happens to a registry.

    Attributes:
        name: of it, in the figures.
        hurt: does it.
        setup: the registry that it happens to.
        news_within: seconds in which the clients must have the news.
    """

    name: str
    hurt: Hurt
    setup: Setup = field(default_factory=Setup)
    news_within: float = 2.0


def outage(name: str, faults: Sequence[Fault], size: Size) -> Outcome:
    """The faults, one after the other, happen to one registry under load: no call fails."""
    outcome = Outcome(name)
    with Fleet(size, faults[0].setup) as fleet:
        for fault in faults:
            fleet.run(1)
            undergo(fault, fleet, outcome)
        missed_at = _last_missed(fleet, size.ttl + 2)  # as long as a lease lives unrenewed
        wait_until("the clients know what etcd holds", fleet.agrees, size.ttl + _AGREE)
        outcome.finish(fleet)
        changes = fleet.changes(since=0)
    outcome.require_no_failure()
    outcome.require(not missed_at, "a registration did not last")
    empty = [change for change in changes if change.fields["total"] == 0]
    outcome.require(not empty, f"a client saw an empty set {len(empty)} times")
    return outcome


def undergo(fault: Fault, fleet: Fleet, outcome: Outcome) -> None:
    """One fault happens; takes note of how fast all was well again, and of what was not."""
    news = f"news-of-{fault.name}"
    with fault.hurt(fleet):
        told_at = fleet.registry.tell_news(news)
        registered = 0.0
        while registered < fleet.size.ttl + _AGREE and (at := _last_missed(fleet, _CALM)):
            registered = at - told_at
        what = f"{fault.name}: the clients have the news"
        wait_until(what, lambda: _learnt_at(fleet, news) < math.inf, _AGREE)
        known = max(0.0, _learnt_at(fleet, news) - told_at)
    # All news, older ones too: a member that was frozen does late what it was asked for before.
    fleet.registry.erase("news-of-", before="news-of.")
    within = fleet.size.ttl / 3 + _RENEWAL + _NOISE
    outcome.require(registered <= within, f"{fault.name}: registered after {registered:.2f} s")
    within = fault.news_within + _NOISE
    outcome.require(known <= within, f"{fault.name}: clients had the news after {known:.2f} s")
    totals = [change.fields["total"] for change in fleet.changes(since=told_at)]
    figures = f"registered after {registered:.2f} s, news after {known:.2f} s"
    outcome.figures[f"{fault.name}:"] = (
        f"{figures}, smallest set {min(totals, default=fleet.size.servers)}"
    )


def _learnt_at(fleet: Fleet, name: str) -> float:
    """When the last client learnt of an endpoint."""
    return max(
        next((c.at for c in changes if name in c.fields["delta"]["added"].values()), math.inf)
        for changes in (client.happenings("endpoints.changed") for client in fleet.clients)
    )


def _last_missed(fleet: Fleet, seconds: float) -> float:
    """When etcd, looked at for so long, was last silent or without one of the servers; 0: never."""
    missed_at, until = 0.0, time.monotonic() + seconds
    while (now := time.monotonic()) < until:
        if not fleet.is_registered():
            missed_at = now
        fleet.run(0.05)
    return missed_at
