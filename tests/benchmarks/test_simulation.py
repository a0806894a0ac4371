"""The simulated fleet, small."""

import pytest

from benchmarks.experiments import deaths, spread, storm, subset_spread
from meshkit.balancer import PowerOfTwo, RoundRobin
from meshkit.client.budget import RetryLimits


def test_the_same_seed_is_the_same_fleet():
    assert spread(PowerOfTwo(), size=8) == spread(PowerOfTwo(), size=8)


def test_all_calls_are_somebodys_and_turns_are_even():
    found = spread(RoundRobin(), size=8)
    assert sum(found.shares) == 8
    assert found.shares == sorted(found.shares, reverse=True)
    assert max(found.shares) - min(found.shares) < 0.05
    assert found.p99 > 0.010


def test_calls_fail_when_servers_freeze_until_everybody_knows():
    failing = deaths(RoundRobin(), size=10, subset=4)
    before, at_once, later = (
        [share for at, share in failing if low <= at < high]
        for low, high in ((0.0, 2.0), (2.0, 2.3), (10.1, 11.0))
    )
    assert max(before) == max(later) == 0.0
    assert max(at_once) > 0.05


@pytest.mark.parametrize("rate", [10.0, 50.0, 250.0])
def test_a_storm_is_held_by_the_budget(rate):
    clients = int(1_000 / rate)
    held = dict(storm(RetryLimits(), clients=clients, rate=rate))
    during = [attempts for at, attempts in held.items() if 5.0 <= at < 15.0]
    assert sum(during) / len(during) < 1.27  # clients call at random times: some more than planned


def test_without_a_budget_nearly_all_of_four_attempts_are_made():
    loose = dict(storm(RetryLimits(share=1e6), clients=4, rate=250.0))
    during = [attempts for at, attempts in loose.items() if 7.0 <= at < 14.0]
    assert sum(during) / len(during) > 3.5


def test_subsets_are_even_enough():
    shares = subset_spread(10, size=50)
    assert sum(shares) == pytest.approx(50)
    assert shares[0] < 2.0
