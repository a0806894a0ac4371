import random

import pytest

from meshkit.balancer import PowerOfTwo, RoundRobin
from tests.balancer.nodes import picker_of
from tests.balancer.simulation import simulate

TEN = {f"s{i}": 0.010 for i in range(10)}  # ten servers of 100 calls a second each
ONE_SLOW = TEN | {"s0": 0.050}  # one of them manages 20

SEEDS = [1, 2, 3]


class Random:
    """What p2c has to beat."""

    def picker(self, rng, now):
        self.draw = rng.choice
        return self

    def pick(self, ready, info):
        return self.draw(ready)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("policy", "tolerance"), [(RoundRobin, 0.0), (PowerOfTwo, 0.10)])
def test_equal_servers_get_equal_shares_under_load(policy, tolerance, seed):
    outcome = simulate(
        picker_of(policy, random.Random(seed)), TEN, rate=600, calls=20_000, seed=seed
    )
    shares = [outcome.calls[name] / 2_000 for name in TEN]
    assert shares == pytest.approx([1.0] * 10, abs=tolerance)


@pytest.mark.parametrize("seed", SEEDS)
def test_two_choices_keep_the_longest_queue_short(seed):
    """Mitzenmacher's result: log log n instead of log n / log log n."""
    drawn, chosen = (
        simulate(picker_of(policy, random.Random(seed)), TEN, rate=900, calls=20_000, seed=seed)
        for policy in (Random, PowerOfTwo)
    )
    assert chosen.most_pending <= drawn.most_pending / 2


@pytest.mark.parametrize("policy", [Random, RoundRobin])
@pytest.mark.parametrize("seed", SEEDS)
def test_two_choices_route_around_a_slow_server(policy, seed):
    """At 400 calls a second its even share is twice what the slow one can do: a queue for ever."""
    blind, chosen = (
        simulate(picker_of(p, random.Random(seed)), ONE_SLOW, rate=400, calls=20_000, seed=seed)
        for p in (policy, PowerOfTwo)
    )
    assert blind.calls["s0"] == pytest.approx(2_000, rel=0.1)
    assert chosen.calls["s0"] < 20 * 20_000 / 400
    assert chosen.percentile(99) < 0.25
    assert blind.percentile(99) > 20 * chosen.percentile(99)
