import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshkit.balancer import (
    Adaptive,
    CircuitBreaker,
    LeastRequest,
    PeakEwma,
    PickFirst,
    PowerOfTwo,
    RoundRobin,
)
from meshkit.errors import ConfigError
from tests.balancer.nodes import CALL
from tests.balancer.world import World

POLICIES = [RoundRobin(), PowerOfTwo(), LeastRequest(), PeakEwma(), PickFirst(), Adaptive()]


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: type(policy).__name__)
def test_calls_fill_every_endpoint_to_its_limit(policy):
    world = World(*"abcdefg", policy=policy, breaker=CircuitBreaker(max_requests_per_endpoint=3))
    for _ in range(7 * 3):
        world.pick().start()
    assert [node.pending for node in world.balancer.nodes] == [3] * 7
    assert world.pick() is None
    assert "3 under way, as many as max_requests_per_endpoint" in world.balancer.group().refusal()
    world["d"].finish(1.0, world.now)
    assert world.pick() is world["d"]


def test_what_one_cannot_take_is_spread_over_the_others():
    breaker = CircuitBreaker(max_requests_per_endpoint=1_000)
    world = World(*"abcde", policy=PickFirst(), breaker=breaker)
    first = world.pick()
    first.pending = 1_000
    picks: Counter[str] = Counter()
    for _ in range(400):
        node = world.pick()
        node.start()
        picks[node.endpoint.id] += 1
    assert first.endpoint.id not in picks
    assert all(96 <= times <= 104 for times in picks.values()), picks  # to the less busy of two


def test_a_service_has_a_limit_whoever_has_the_calls():
    world = World("a", "b", breaker=CircuitBreaker(max_requests=10))
    world.balancer.in_flight.pending = 9
    assert world.pick() is not None
    world.balancer.in_flight.pending = 10
    assert world.pick() is None
    assert world.balancer.pick_other(CALL, []) is None
    assert "10 are under way, as many as max_requests" in world.balancer.group().refusal()


@pytest.mark.parametrize("policy", [RoundRobin(), PickFirst()])
def test_another_attempt_goes_to_an_endpoint_that_has_room(policy):
    breaker = CircuitBreaker(max_requests_per_endpoint=1)
    world = World("a", "b", "c", policy=policy, breaker=breaker)
    tried = world.pick()
    full, free = (node for node in world.balancer.nodes if node is not tried)
    full.start()
    assert {world.balancer.pick_other(CALL, [tried]) for _ in range(50)} == {free}


def test_nobody_connected_is_no_matter_of_limits():
    world = World(breaker=CircuitBreaker(max_requests=1))
    world.balancer.in_flight.pending = 1
    assert world.pick() is None
    assert world.balancer.group().refusal() == ""


@given(
    limit=st.integers(1, 4),
    size=st.integers(1, 6),
    steps=st.lists(st.booleans(), max_size=60),
    policy=st.sampled_from(POLICIES),
    seed=st.integers(0, 1000),
)
def test_no_endpoint_is_over_its_limit_and_none_is_idle_while_calls_are_refused(
    limit, size, steps, policy, seed
):
    breaker = CircuitBreaker(max_requests_per_endpoint=limit)
    world = World(*"abcdef"[:size], policy=policy, breaker=breaker, seed=seed)
    rng = random.Random(seed)
    for begins in steps:
        busy = [node for node in world.balancer.nodes if node.pending]
        if not begins and busy:
            rng.choice(busy).finish(0.1, world.now)
        elif (node := world.pick()) is None:
            assert all(node.pending == limit for node in world.balancer.nodes)
        else:
            node.start()
        assert all(node.pending <= limit for node in world.balancer.nodes)


@pytest.mark.parametrize("name", ["max_requests", "max_requests_per_endpoint"])
def test_a_limit_of_nothing_is_refused(name):
    with pytest.raises(ConfigError, match=f"{name}: must be an integer of 1 or more, got 0"):
        CircuitBreaker(**{name: 0})
