"""The soak, short: random faults, and what must not grow; and that growth is seen."""

from __future__ import annotations

import pytest

from meshkit.testing.etcd import find_etcd
from tests.faults.journal import Happening
from tests.faults.soak import CLUSTER, SINGLE, SIZE, Kind, soak
from tests.faults.vitals import Growth


@pytest.mark.etcd
@pytest.mark.timeout(240)
@pytest.mark.skipif(find_etcd() is None, reason="no etcd here")
@pytest.mark.parametrize("kind", [SINGLE, CLUSTER], ids=lambda kind: kind.name)
def test_random_faults_lose_no_call_and_leave_nothing(kind: Kind):
    """Three minutes, as the two run one after the other or side by side."""
    outcome = soak(kind, SIZE, seconds=90, seed=2)
    print(outcome.line())
    assert not outcome.problems, outcome.line()


def vitals(at: float, **fields: float) -> Happening:
    return Happening(
        at=at, what="vitals", fields={"tasks": 10, "fds": 20, "rss": 5e7, "in_use": 3e7} | fields
    )


def test_what_comes_and_goes_is_no_growth():
    noise = [vitals(float(n), tasks=10 + n % 3, fds=20 + n % 2) for n in range(199)]
    warming = [vitals(float(n), in_use=1e7 + n * 1e6) for n in range(20)]
    growth = Growth.of([*warming, *noise])
    assert (growth.tasks, growth.fds, growth.memory) == (0, 0, 0)
    assert growth.slope == pytest.approx(0, abs=0.01)


def test_what_grows_is_seen():
    growth = Growth.of(
        [vitals(60.0 * n, tasks=10 + n, in_use=3e7 + n * 1e6, rss=5e7 + n * 2e6) for n in range(61)]
    )
    assert growth.tasks > 20
    assert growth.slope == pytest.approx(60, rel=0.01)
    assert growth.rss_slope == pytest.approx(120, rel=0.01)
