"""What can happen to the members of a cluster of three."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from tests.faults.fleet import Fleet
from tests.faults.outages import Fault
from tests.faults.registry import Setup

__all__ = ["CUT_OFF", "OF_CLUSTER", "SEVERABLE"]


@contextmanager
def _frozen(fleet: Fleet) -> Iterator[None]:
    """The member in use is silent, and stays so."""
    member = fleet.registry.member_in_use()
    member.pause()
    yield
    member.resume()


@contextmanager
def _lonely(fleet: Fleet) -> Iterator[None]:
    """The member in use answers on, and reaches none of the others, which are frozen."""
    member = fleet.registry.member_in_use()
    others = [other for other in fleet.registry.members if other is not member]
    for other in others:
        other.pause()
    fleet.run(fleet.size.seconds)
    for other in others:
        other.resume()
    yield


@contextmanager
def _cut_off(fleet: Fleet) -> Iterator[None]:
    """The network parts the member in use from the two others, which go on."""
    fleet.registry.cut_off(fleet.registry.member_in_use())
    yield
    fleet.registry.rejoin()


@contextmanager
def _outvoted(fleet: Fleet) -> Iterator[None]:
    """Two of three are killed, and come back."""
    leader = fleet.registry.leader()
    lost = [leader, *(m for m in fleet.registry.members if m is not leader)][:2]
    for member in lost:
        member.kill()
    fleet.run(fleet.size.seconds)
    for member in lost:
        member.restart()
    yield


@contextmanager
def _leaderless_twice(fleet: Fleet) -> Iterator[None]:
    """The leader is killed and comes back, then its successor is killed, and stays away."""
    first = fleet.registry.leader()
    first.kill()
    fleet.registry.tell_news("between")
    first.restart()
    fleet.registry.erase("between")
    second = fleet.registry.leader()
    second.kill()
    yield
    second.restart()


_CLUSTER: Final = Setup(members=3)
SEVERABLE: Final = Setup(members=3, severable=True)

OF_CLUSTER: Final = (
    Fault(name="member-frozen", hurt=_frozen, setup=_CLUSTER, news_within=3.0),
    Fault(name="member-alone", hurt=_lonely, setup=_CLUSTER),
    Fault(name="quorum-lost", hurt=_outvoted, setup=_CLUSTER),
    Fault(name="two-leaders-lost", hurt=_leaderless_twice, setup=_CLUSTER, news_within=3.0),
)

CUT_OFF: Final = Fault(name="member-cut-off", hurt=_cut_off, setup=SEVERABLE, news_within=5.0)
