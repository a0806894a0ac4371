"""What each policy makes of uneven, slow, failing and changing servers, in seeded simulations."""

import math
import random
from statistics import median

import pytest

from meshkit.balancer import (
    Adaptive,
    LeastRequest,
    PeakEwma,
    Policy,
    PowerOfTwo,
    Random,
    RoundRobin,
    WeightedRoundRobin,
)
from tests.balancer.nodes import CALL, nodes
from tests.balancer.simulation import Server, simulate

SEEDS = [1, 2, 3]
NAMES = [f"s{i}" for i in range(10)]
WORKER = Server(work=0.010, workers=1)  # 100 calls a second
TEN = dict.fromkeys(NAMES, WORKER)
ONE_SLOW = TEN | {"s0": Server(work=0.050, workers=1)}  # one of them manages 20

# The four worlds that the default policy is made for.
QUICK = dict.fromkeys(NAMES, Server())
LIMITED = QUICK | {"s0": Server(delay=0.050), "s1": Server(work=0.005, workers=4)}
HALF = QUICK | {"s0": Server(work=0.050, workers=1)}
EQUAL = dict.fromkeys(NAMES, Server(work=0.020, workers=1, jitter=0.002))
FAILING = QUICK | {"s0": Server(fails=True)}
QUARTER = EQUAL | {"s0": Server(work=0.080, workers=1)}


def ratio(policy: Policy, servers, percent: float = 99, **how) -> float:
    """A percentile of a policy's latencies over that of round_robin, the median of some seeds."""
    return median(
        simulate(policy, servers, seed=seed, **how).percentile(percent)
        / simulate(RoundRobin(), servers, seed=seed, **how).percentile(percent)
        for seed in SEEDS
    )


class TestDefault:
    @pytest.mark.parametrize("clients", [1, 4])
    def test_flees_the_slow_and_the_limited(self, clients):
        assert ratio(Adaptive(), LIMITED, rate=400, seconds=8, clients=clients) <= 0.12

    @pytest.mark.parametrize("clients", [1, 4])
    def test_flees_who_cannot_serve_its_share(self, clients):
        assert ratio(Adaptive(), HALF, rate=400, seconds=8, clients=clients) <= 0.01

    @pytest.mark.parametrize("clients", [1, 4])
    @pytest.mark.parametrize("jitter", [0.0, 0.002, 0.006])
    def test_is_as_even_as_round_robin_on_equal_servers(self, jitter, clients):
        equal = dict.fromkeys(NAMES, Server(work=0.020, workers=1, jitter=jitter))
        assert ratio(Adaptive(), equal, rate=300, seconds=20, clients=clients) <= 1.05

    @pytest.mark.parametrize("clients", [1, 4])
    @pytest.mark.parametrize("seed", SEEDS)
    def test_a_failing_server_gets_hardly_any_calls(self, seed, clients):
        how = {"rate": 400, "seconds": 8, "seed": seed, "clients": clients}
        assert simulate(Adaptive(), FAILING, **how).since(2.0).share("s0") < 0.005

    @pytest.mark.parametrize("clients", [1, 4])
    def test_flees_one_four_times_slower_under_load(self, clients):
        assert ratio(Adaptive(), QUARTER, rate=300, seconds=10, clients=clients) <= 0.02

    @pytest.mark.parametrize("seed", SEEDS)
    def test_uses_the_slow_when_the_others_do_not_suffice(self, seed):
        """Three of ten could not do it alone: all have to, by what they can."""
        servers = dict.fromkeys(NAMES, Server(work=0.040, workers=1)) | dict.fromkeys(
            NAMES[:3], Server(work=0.010, workers=1)
        )
        how = {"rate": 380, "seconds": 15, "seed": seed}  # of 475 that all can do together
        outcome = simulate(Adaptive(), servers, **how)
        assert 0.55 < outcome.since(5.0).share(*NAMES[:3]) < 0.85
        assert outcome.since(5.0).percentile(99) < 0.5

    @pytest.mark.parametrize("seed", SEEDS)
    def test_notices_at_once_who_becomes_slow(self, seed):
        changes = [(5.0, "s0", Server(delay=0.050))]
        outcome = simulate(Adaptive(), QUICK, rate=400, seconds=10, seed=seed, changes=changes)
        assert outcome.since(5.0, 6.0).calls["s0"] <= 20
        assert outcome.since(6.0).calls["s0"] <= 2

    @pytest.mark.parametrize("seed", SEEDS)
    def test_sends_no_more_to_one_that_hangs(self, seed):
        changes = [(5.0, "s0", Server(delay=1_000.0))]
        outcome = simulate(Adaptive(), QUICK, rate=400, seconds=10, seed=seed, changes=changes)
        assert outcome.since(5.0).calls["s0"] <= 4


@pytest.mark.parametrize("seed", range(20))
def test_pauses_keep_nobody_from_an_equal_server(seed):
    """One call after the other; one of a hundred is held up by what is not the server's fault."""
    dice, now = random.Random(seed), 0.0
    three = nodes("a", "b", "c")
    picker = Adaptive().picker(dice, lambda: now)
    for _ in range(3_000):
        node = picker.pick(three, CALL)
        took = dice.lognormvariate(math.log(0.0004), 0.25)
        if dice.random() < 0.01:
            took += dice.choice((0.003, 0.010, 0.030))
        node.start()
        now += took
        node.finish(took, now)
    assert min(node.finished for node in three) > 900


@pytest.mark.parametrize(
    ("policy", "tolerance"), [(Adaptive(), 0.01), (PeakEwma(), 0.06)], ids=repr
)
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("ill", [Server(delay=0.050), Server(fails=True)], ids=["slow", "failing"])
def test_one_that_is_well_again_gets_its_share_again(ill, seed, policy, tolerance):
    servers, changes = QUICK | {"s0": ill}, [(10.0, "s0", Server())]
    outcome = simulate(policy, servers, rate=200, seconds=90, seed=seed, changes=changes)
    assert outcome.since(3.0, 10.0).share("s0") < 0.01
    assert outcome.since(75.0).share("s0") == pytest.approx(0.1, abs=tolerance)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("policy", "tolerance"),
    [
        (Adaptive(), 0.02),
        (RoundRobin(), 0.01),
        (WeightedRoundRobin(), 0.01),
        (Random(), 0.10),
        (LeastRequest(), 0.10),
        (PowerOfTwo(), 0.10),
    ],
    ids=repr,
)
def test_equal_servers_get_equal_shares_under_load(policy, tolerance, seed):
    outcome = simulate(policy, TEN, rate=600, seconds=30, seed=seed)
    shares = [outcome.share(name) * 10 for name in NAMES]
    assert shares == pytest.approx([1.0] * 10, abs=tolerance)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("policy", "tolerance"),
    [
        (Adaptive(), 0.05),
        (WeightedRoundRobin(), 0.02),
        (Random(), 0.10),
        (PowerOfTwo(), 0.30),
        (LeastRequest(), 0.30),
        (LeastRequest(choice_count=5), 0.30),
    ],
    ids=repr,
)
@pytest.mark.parametrize("rate", [20, 300])
def test_shares_follow_the_weights(rate, policy, tolerance, seed):
    """Servers of as many workers as they say."""
    weights = [100, 100, 200, 50, 50]
    servers = {
        f"s{i}": Server(work=0.020, workers=weight // 50, weight=weight)
        for i, weight in enumerate(weights)
    }
    outcome = simulate(policy, servers, rate=rate, seconds=9_000 / rate, seed=seed)
    shares = [outcome.share(name) * sum(weights) / servers[name].weight for name in servers]
    assert shares == pytest.approx([1.0] * 5, abs=tolerance)


@pytest.mark.parametrize("seed", SEEDS)
def test_two_choices_keep_the_longest_queue_short(seed):
    """Mitzenmacher's result: log log n instead of log n / log log n."""
    drawn, chosen = (
        simulate(policy, TEN, rate=900, seconds=20, seed=seed)
        for policy in (Random(), PowerOfTwo())
    )
    assert chosen.most_pending <= drawn.most_pending / 2


@pytest.mark.parametrize("blind", [Random(), RoundRobin()], ids=repr)
@pytest.mark.parametrize("seeing", [PowerOfTwo(), LeastRequest(), PeakEwma(), Adaptive()], ids=repr)
def test_calls_go_around_a_slow_server(seeing, blind):
    """At 400 calls a second its even share is twice what the slow one can do: a queue for ever."""
    how = {"rate": 400, "seconds": 40, "seed": 1}
    unseen, seen = simulate(blind, ONE_SLOW, **how), simulate(seeing, ONE_SLOW, **how)
    assert unseen.share("s0") == pytest.approx(0.1, rel=0.1)
    assert seen.share("s0") < 0.05
    assert seen.percentile(99) < 0.25
    assert unseen.percentile(99) > 20 * seen.percentile(99)


@pytest.mark.parametrize("policy", [PeakEwma(), Adaptive()], ids=repr)
@pytest.mark.parametrize("seed", SEEDS)
def test_the_same_seed_gives_the_same_calls(policy, seed):
    how = {"rate": 300, "seconds": 2, "seed": seed, "clients": 2}
    assert simulate(policy, LIMITED, **how) == simulate(policy, LIMITED, **how)
    other = simulate(policy, LIMITED, **(how | {"seed": seed + 10}))
    assert not math.isclose(other.percentile(50), simulate(policy, LIMITED, **how).percentile(50))
