import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshkit.balancer import (
    Adaptive,
    LeastRequest,
    Maglev,
    PeakEwma,
    PowerOfTwo,
    Random,
    Readiness,
    RoundRobin,
    SlowStart,
)
from meshkit.errors import ConfigError
from tests.balancer.nodes import endpoints
from tests.balancer.world import World

WINDOW = SlowStart(window=10.0)
POLICIES = [RoundRobin(), Random(), PowerOfTwo(), LeastRequest(), PeakEwma(), Adaptive()]


def share(world: World, name: str, calls: int = 4_000) -> float:
    """The part of sequential calls that go to a node, of its equal share."""
    taken = 0
    for _ in range(calls):
        node = world.pick()
        taken += node.endpoint.id == name
        node.start()
        node.finish(0.01, world.now)
    return taken / calls * len(world.balancer.nodes)


def with_a_new_one(policy=None, **options) -> World:
    world = World("a", "b", "c", policy=policy, slow_start=SlowStart(**{"window": 10.0} | options))
    for name in "abc":
        world[name].start()
        world[name].finish(0.01, world.now)
    world.want("a", "b", "c", "new")
    return world


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: type(policy).__name__)
def test_a_new_node_grows_into_its_share_with_every_policy(policy):
    world = with_a_new_one(policy)
    world.sleep(0.1)
    full = 1.0 if not isinstance(policy, Adaptive | PeakEwma) else None  # those go by latency
    shares = [share(world, "new")]
    world.sleep(4.9)
    shares.append(share(world, "new"))
    world.sleep(5.1)
    shares.append(share(world, "new"))
    assert shares[0] < shares[1] < shares[2]
    assert shares[0] <= 0.2
    if full is not None:
        assert shares[0] >= 0.05
        assert 0.35 <= shares[1] <= 0.65
        assert 0.85 <= shares[2] <= 1.15


@pytest.mark.parametrize(
    ("aggression", "least", "most"), [(1.0, 0.2, 0.3), (2.0, 0.45, 0.55), (0.5, 0.05, 0.15)]
)
def test_aggression_is_that_of_envoy(aggression, least, most):
    world = with_a_new_one(aggression=aggression)
    world.sleep(2.5)
    assert least <= share(world, "new", 20_000) <= most


def test_what_it_does_not_take_is_spread_over_the_others():
    world = with_a_new_one(min_weight_percent=0.0)
    picks = world.picks(3_000)
    assert picks["new"] == 0
    assert all(850 <= picks[name] <= 1_150 for name in "abc"), picks


def test_those_that_are_found_at_the_start_are_warm():
    world = World("a", "b", slow_start=WINDOW)
    assert world.picks(100) == {"a": 50, "b": 50}
    world.balancer.reconcile(endpoints())
    world.want("a", "b")
    assert world.picks(100) == {"a": 50, "b": 50}


def test_a_connection_that_is_back_is_warm():
    world = with_a_new_one()
    for name in ("a", "new"):
        world.sleep(10.0)
        world.balancer.set_readiness(world[name], Readiness.CONNECTING)
        world.balancer.set_readiness(world[name], Readiness.READY)
    assert world.picks(400) == dict.fromkeys(["a", "b", "c", "new"], 100)


def test_the_time_begins_when_it_is_ready():
    world = World("a", "b", "c", slow_start=WINDOW)
    world.balancer.reconcile(endpoints("a", "b", "c", "new"))
    world.sleep(60.0)
    world.balancer.set_readiness(world["new"], Readiness.READY)
    assert share(world, "new") < 0.2


@pytest.mark.parametrize("is_ready", [True, False])
def test_who_has_left_is_forgotten(is_ready):
    world = World("a", slow_start=WINDOW)
    world.balancer.reconcile(endpoints("a", "new"))
    new = world["new"]
    if is_ready:
        world.balancer.set_readiness(new, Readiness.READY)
    world.want("a")
    warming = world.balancer._warming
    assert not any(new in known for known in (warming._awaited, warming._ready_at))


def test_all_new_ones_together_get_all():
    world = World("a", slow_start=WINDOW)
    world.want("a", "b", "c")
    world.want("b", "c")
    picks = world.picks(1_000)
    assert picks.total() == 1_000
    assert min(picks.values()) > 400


def test_a_call_by_key_goes_where_it_belongs():
    world = with_a_new_one(Maglev(key=lambda info: info.path.encode()))
    with_all = World("a", "b", "c", "new", policy=Maglev(key=lambda info: info.path.encode()))
    assert {world.pick().endpoint.id for _ in range(50)} == {with_all.pick().endpoint.id}


@given(
    age=st.floats(0, 1e6),
    window=st.floats(0, 1e4),
    aggression=st.floats(0.01, 100),
    least=st.floats(0, 100),
)
def test_the_share_is_one_and_grows(age, window, aggression, least):
    rule = SlowStart(window=window, aggression=aggression, min_weight_percent=least)
    assert least / 100 <= rule.share(age) <= 1.0
    assert rule.share(age) <= rule.share(age + 1.0) <= rule.share(rule.window) == 1.0


@pytest.mark.parametrize(
    "wrong", [{"window": -1.0}, {"aggression": 0.0}, {"min_weight_percent": 101.0}]
)
def test_bad_rules_are_refused(wrong):
    (name,) = wrong
    with pytest.raises(ConfigError, match=name):
        SlowStart(**wrong)


@given(
    ages=st.lists(st.floats(0, 20), min_size=1, max_size=6),
    seed=st.integers(0, 1000),
    warm=st.integers(0, 3),
)
def test_somebody_is_always_picked(ages, seed, warm):
    rng = random.Random(seed)
    world = World("seed", policy=PowerOfTwo(), slow_start=WINDOW, seed=seed)
    names = [f"n{number}" for number in range(len(ages))]
    for number, age in enumerate(ages):
        world.sleep(age)
        world.want("seed", *names[: number + 1])
    world.want(*names, *(["seed"] if warm else []))
    for _ in range(30):
        world.sleep(rng.random())
        assert world.pick() is not None
