"""The adaptive limit, in simulated queues: all seeded, in virtual time."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshkit.errors import ConfigError
from meshkit.server.limit import AdaptiveLimit, AdaptiveLimiter, FixedLimiter, _Normal
from tests.server.queue_world import Phase, World

WORK = 0.02  # seconds per call
IN_TIME = 0.2


def adaptive(**options):
    return lambda rng, lag: AdaptiveLimiter(AdaptiveLimit(**options), rng, lag)


def without(rng, lag):
    return FixedLimiter(10**9, rng)


def capacity(workers: int) -> float:
    return workers / WORK


@pytest.mark.parametrize("workers", [4, 10, 40, 160])
@pytest.mark.parametrize("seed", [1, 2])
def test_it_converges_near_what_the_server_can_do(workers, seed):
    world = World(adaptive(), seed)
    world.run(Phase(10, 0.5 * capacity(workers), workers))
    seen = world.run(Phase(20, 2 * capacity(workers), workers))
    ideal = 1.5 * workers + math.sqrt(1.5 * workers)  # tolerance, and what may queue
    assert 0.6 * ideal < seen.limit < 1.8 * ideal
    assert len(seen.latencies) > 0.95 * 20 * capacity(workers)  # the workers are never idle
    assert seen.within(IN_TIME) > 0.97 * len(seen.latencies)


def test_it_begins_at_an_overload_and_finds_its_height_within_two_seconds():
    world = World(adaptive(), 3)
    world.run(Phase(2, 2 * capacity(160), 160))
    assert world.run(Phase(1, 2 * capacity(160), 160)).limit > 160


def test_an_overload_that_lasts_does_not_become_normal():
    world = World(adaptive(probe_after=20.0), 4)
    first = world.run(Phase(15, 3 * capacity(10), 10))
    world.run(Phase(300, 3 * capacity(10), 10))
    last = world.run(Phase(15, 3 * capacity(10), 10))
    assert 0.5 * first.limit < last.limit < 2 * first.limit
    assert last.within(IN_TIME) > 0.9 * len(last.latencies)


def test_bursts_do_not_bring_it_down():
    world = World(adaptive(), 5)
    calm = Phase(5, 0.5 * capacity(10), 10)
    before = world.run(calm)
    for _ in range(5):
        world.run(Phase(0.1, 20 * capacity(10), 10))
        world.run(Phase(1, 0.5 * capacity(10), 10))
    after = world.run(calm)
    assert before.refused == after.refused == 0
    assert after.limit > 10


def test_it_recovers_when_the_server_does():
    """Work takes ten times as long for a while, as when a database is slow."""
    world = World(adaptive(), 6)
    usual = Phase(10, 0.7 * capacity(10), 10)
    world.run(usual)
    slow = world.run(Phase(20, 0.7 * capacity(10), 10, {"/a/B": 10 * WORK}))
    assert slow.refused > 0.8 * slow.offered  # it can do a tenth
    world.run(usual)
    after = world.run(usual)
    assert after.refused < 0.01 * after.offered


def test_it_learns_that_work_takes_longer_now():
    """After a probe, what is normal is another; capacity is not given away for ever."""
    world = World(adaptive(probe_after=10.0), 7)
    world.run(Phase(10, 0.5 * capacity(10), 10))
    longer = {"/a/B": 3 * WORK}
    world.run(Phase(40, capacity(10), 10, longer))
    seen = world.run(Phase(20, capacity(10), 10, longer))
    assert seen.limit > 10
    assert len(seen.latencies) > 0.9 * 20 * capacity(10) / 3


def test_a_slow_method_beside_a_quick_one_is_no_overload():
    world = World(adaptive(), 8)
    quick = Phase(10, 400, 100, {"/a/Quick": 0.005})
    world.run(quick)
    seen = world.run(Phase(20, 400, 100, {"/a/Quick": 0.005, "/a/Slow": 0.3}))
    assert seen.refused < 0.01 * seen.offered


def test_a_loop_that_runs_late_lowers_it():
    quiet, late = World(adaptive(), 9), World(adaptive(), 9)
    load = Phase(20, 0.9 * capacity(10), 10)
    assert late.run(Phase(20, load.rate, 10, lag=0.3)).limit < 0.5 * quiet.run(load).limit


def test_most_calls_are_in_time_with_it_and_hardly_any_without():
    """Goodput at twice what the server can do."""
    overload = Phase(20, 2 * capacity(10), 10)
    good = World(adaptive(), 10).run(overload).within(IN_TIME)
    bad = World(without, 10).run(overload).within(IN_TIME)
    assert good > 0.9 * 20 * capacity(10)
    assert bad < 0.1 * good


@pytest.mark.parametrize(("work", "share"), [(WORK, 0.1), (1.0, 0.4)])
def test_a_probe_is_short_and_rare(work, share):
    """Where calls are slow, fewer of them must do."""
    world = World(adaptive(probe_after=20.0), 11)
    overload = {"workers": 10, "rate": 2 * 10 / work, "work": {"/a/B": work}}
    world.run(Phase(20, **overload))
    seen = world.run(Phase(100, **overload))
    probed = sum(limit == 2 for limit in seen.limits)
    assert 0 < probed < share * len(seen.limits)


def test_a_probe_counts_as_much_as_all_that_was_known():
    normal = _Normal(1.0)
    for _ in range(1000):
        normal.learn(1.0)
    normal.doubt()
    for _ in range(50):
        normal.learn(3.0)
    assert normal.compare(2.0) == pytest.approx(1.0)


def test_streams_hold_no_place_and_teach_nothing():
    limiter = adaptive(initial=2)(random.Random(0), float)
    for _ in range(100):
        stream = limiter.enter(0.0)
        limiter.free(stream)
    for _ in range(2):
        assert limiter.enter(0.0) is not None
    assert limiter.enter(0.0) is None  # not even for another stream
    limiter.leave(stream, "/a/B", 3600.0)
    assert limiter.enter(0.0) is None
    assert limiter.refused == 2
    assert limiter.pushback() <= 0.015


def test_methods_of_any_number_share_a_bounded_memory():
    limiter = adaptive()(random.Random(0), float)
    for number in range(1000):
        limiter.leave(limiter.enter(number), f"/a/{number}", number + 0.5)
    assert len(limiter._normal) == 257


@pytest.mark.parametrize("make", [adaptive(initial=3), lambda rng, lag: FixedLimiter(3, rng)])
def test_a_pushback_is_about_as_long_as_a_call(make):
    limiter = make(random.Random(0), float)
    for number in range(50):
        limiter.leave(limiter.enter(number), "/a/B", number + 0.4)
    pushbacks = [limiter.pushback() for _ in range(100)]
    assert 0.15 < min(pushbacks) < 0.25
    assert 0.55 < max(pushbacks) < 0.65


def test_a_fixed_limit_counts_streams():
    limiter = FixedLimiter(1, random.Random(0))
    stream = limiter.enter(0.0)
    limiter.free(stream)
    assert limiter.enter(0.0) is None
    limiter.leave(stream, "/a/B", 1.0)
    assert limiter.enter(1.0) is not None
    assert limiter.refused == 1


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["enter", "leave", "stream"]),
        st.floats(0, 2),
        st.integers(0, 10**6),
        st.floats(0, 1),
    ),
    max_size=300,
)


@given(STEPS, st.integers(1, 10), st.integers(0, 20), st.integers(0, 100))
@settings(max_examples=100)
def test_whatever_happens_it_keeps_its_bounds(steps, minimum, more, most):
    lag = 0.0
    options = AdaptiveLimit(
        minimum=minimum, initial=minimum + more, maximum=minimum + more + most, probe_after=5.0
    )
    limiter = AdaptiveLimiter(options, random.Random(0), lambda: lag)
    now, places = 0.0, []
    for what, seconds, choice, late in steps:
        now, lag = now + seconds, late
        if what == "enter":
            full = len(places) >= limiter.limit
            place = limiter.enter(now)
            assert (place is None) == full
            if place is not None:
                places.append(place)
        elif places:
            place = places.pop(choice % len(places))
            if what == "stream":
                limiter.free(place)
            limiter.leave(place, "/a/B", now)
        assert options.minimum <= limiter.limit <= options.maximum
    for place in places:
        limiter.leave(place, "/a/B", now)
    for _ in range(limiter.limit):
        assert limiter.enter(now) is not None  # no place was lost
    assert limiter.enter(now) is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"minimum": 0}, "1 <= minimum"),
        ({"initial": 1}, "minimum <= initial"),
        ({"maximum": 10}, "initial <= maximum"),
        ({"tolerance": 0.9}, "tolerance"),
        ({"max_lag": 0.0}, "max_lag"),
        ({"window": 0.0}, "window"),
        ({"probe_after": -1.0}, "probe_after"),
    ],
)
def test_bounds_that_make_no_sense(options, words):
    with pytest.raises(ConfigError, match=words):
        AdaptiveLimit(**options)
