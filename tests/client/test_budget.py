"""What further attempts may cost, how far a call has come, and how slow calls are: pure."""

from __future__ import annotations

import random
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshkit.client.budget import Budget, RetryLimits, Throttle
from meshkit.client.course import Course, pushback_of
from meshkit.client.latency import LatencyQuantile
from meshkit.errors import ConfigError
from meshkit.service_config import RetryPolicy, RetryThrottling

POLICY = RetryPolicy(
    max_attempts=5,
    initial_backoff=0.1,
    max_backoff=0.5,
    backoff_multiplier=2,
    retryable_status_codes=frozenset({"UNAVAILABLE", "ABORTED"}),
)


# ---- Budget


@given(
    share=st.floats(0, 2),
    per_second=st.floats(0, 50),
    pauses=st.lists(st.floats(0, 5), min_size=1, max_size=200),
    calls=st.integers(0, 20),
)
def test_no_stretch_of_time_has_more_than_it_may(share, per_second, pauses, calls):
    budget = Budget(RetryLimits(share=share, per_second=per_second), 0.0)
    spent = 0
    for count, now in enumerate(accumulate(pauses), 1):
        for _ in range(calls):
            budget.earn(now)
        while spent < 10_000 and budget.spend(now):
            spent += 1
        most = share * calls * count + per_second * (now + 1) + 1
        assert spent <= most + 1e-6


@given(rate=st.integers(400, 5000), seed=st.integers(0, 100))
def test_attempts_stay_below_five_quarters_of_the_calls_when_everything_fails(rate, seed):
    rng = random.Random(seed)
    budget = Budget(RetryLimits(), 0.0)
    now, attempts, calls = 0.0, 0, 3000
    for _ in range(calls):
        now += rng.expovariate(rate)
        budget.earn(now)
        attempts += 1
        while rng.random() < 0.8 and budget.spend(now):
            attempts += 1
    assert attempts <= 1.25 * calls + 11


def test_a_share_of_the_calls_is_paid_for_however_many_there_are():
    budget = Budget(RetryLimits(share=0.2, per_second=0.0), 0.0)
    spent = 0
    for number in range(10_000):
        now = number / 1000
        budget.earn(now)
        spent += budget.spend(now)
    assert 1_900 <= spent <= 2_000


def test_what_was_saved_fades():
    def saved(pause: float) -> int:
        budget = Budget(RetryLimits(share=1.0, per_second=0.0), 0.0)
        for _ in range(1000):
            budget.earn(0.0)
        return sum(budget.spend(pause) for _ in range(2000))

    assert saved(0.0) == 1000
    assert 480 <= saved(7.0) <= 510
    assert saved(100.0) == 0


def test_a_client_that_makes_hardly_any_calls_may_retry():
    budget = Budget(RetryLimits(share=0.0, per_second=10.0), 0.0)
    assert sum(budget.spend(0.0) for _ in range(100)) == 10
    assert sum(budget.spend(0.35) for _ in range(100)) == 3
    assert sum(budget.spend(99.0) for _ in range(100)) == 10


def test_time_that_goes_back_gives_nothing():
    budget = Budget(RetryLimits(share=0.0, per_second=1.0), 10.0)
    assert budget.spend(10.0)
    assert not budget.spend(5.0)
    assert not budget.spend(10.5)
    assert budget.spend(11.0)


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"share": -0.1}, "share must be 0 or more, got -0.1"),
        ({"per_second": float("nan")}, "per_second must be 0 or more, got nan"),
        ({"buffer": -1}, "buffer must be 0 or more bytes, got -1"),
    ],
)
def test_limits_are_checked(limits, words):
    with pytest.raises(ConfigError, match=words):
        RetryLimits(**limits)


# ---- Throttle


@given(st.integers(1, 20), st.floats(0.001, 3), st.lists(st.booleans(), max_size=200))
def test_tokens_are_those_of_the_grfc(most, ratio, calls):
    policy = RetryThrottling(max_tokens=most, token_ratio=ratio)
    throttle, tokens = Throttle(policy), float(most)
    for succeeds in calls:
        if succeeds:
            throttle.succeeded()
            tokens = min(most, tokens + policy.token_ratio)
        else:
            throttle.failed()
            tokens = max(0.0, tokens - 1)
        assert throttle.allows is (tokens > most / 2)


def test_another_policy_finds_it_as_full_as_it_is():
    throttle = Throttle(RetryThrottling(max_tokens=10, token_ratio=1))
    for _ in range(4):
        throttle.failed()
    other = throttle.under(RetryThrottling(max_tokens=100, token_ratio=1))  # 60 tokens
    for _ in range(9):
        other.failed()
    assert other.allows
    other.failed()
    assert not other.allows


# ---- Course


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("0", 0.0),
        ("1500", 1.5),
        (b"20", 0.02),
        ("2147483647", 2147483.647),
        *[(bad, -1.0) for bad in ("-1", "2147483648", "99999999999", "007", "+1", "1.5", "", "x")],
    ],
)
def test_pushback(value, seconds):
    assert pushback_of(value) == seconds


def waits(course: Course, *pushbacks: float | None) -> list[float | None]:
    found = []
    for pushback in pushbacks:
        found.append(course.next_wait("ABORTED", pushback, 1.0))
        course.attempts += 1
    return found


def test_delays_grow_to_the_limit_and_end_with_the_attempts():
    assert waits(Course(POLICY), *[None] * 5) == [0.1, 0.2, 0.4, 0.5, None]


def test_growth_begins_anew_after_a_delay_that_a_server_named():
    assert waits(Course(POLICY), None, None, 7.0, None) == [0.1, 0.2, 7.0, 0.1]


@given(st.floats(0, 1))
def test_jitter_is_full(die):
    assert Course(POLICY).next_wait("ABORTED", None, die) == pytest.approx(0.1 * die)


def test_what_is_not_tried_again():
    assert Course(POLICY).next_wait("INTERNAL", None, 1.0) is None
    assert Course(POLICY).next_wait("INTERNAL", 0.0, 1.0) is None
    assert Course(POLICY).next_wait("ABORTED", -1.0, 1.0) is None


def test_what_counts_as_a_failure_of_the_server():
    course = Course(POLICY)
    assert course.is_failure("ABORTED", None)
    assert course.is_failure("INTERNAL", -1.0)
    assert not course.is_failure("INTERNAL", 1.0)


# ---- LatencyQuantile


@pytest.mark.parametrize("share", [0.5, 0.9, 0.95, 0.99])
@pytest.mark.parametrize("scale", [0.001, 1.0])
def test_the_share_of_calls_that_stays_under_it(share, scale):
    rng = random.Random(7)
    quantile = LatencyQuantile(share)
    under = 0
    for number in range(40_000):
        seconds = rng.lognormvariate(0, 0.7) * scale
        if number >= 10_000:
            under += seconds <= quantile.value
        quantile.add(seconds)
    assert under / 30_000 == pytest.approx(share, abs=0.01)


def test_it_says_nothing_before_it_knows_enough():
    quantile = LatencyQuantile(0.95)
    for _ in range(19):
        quantile.add(1.0)
    quantile.add_longer_than(5.0)
    assert quantile.value is None
    quantile.add(0.5)
    assert quantile.value == 1.0


def test_it_follows_a_change():
    quantile = LatencyQuantile(0.95)
    for _ in range(1000):
        quantile.add(0.1)
    for _ in range(100):
        quantile.add(1.0)
    assert quantile.value > 0.9
    for _ in range(1000):
        quantile.add(0.1)
    assert quantile.value < 0.12


def test_calls_that_were_given_up_beyond_it_count_as_slow():
    rng = random.Random(3)
    quantile, cut = LatencyQuantile(0.9), 0
    for number in range(30_000):
        seconds = rng.expovariate(1.0)
        limit = quantile.value
        if limit is not None and seconds > limit:  # hedged then, and the other one was first
            quantile.add_longer_than(limit * 1.01)
            cut += number >= 10_000
        else:
            quantile.add(seconds)
            quantile.add_longer_than(0.0)  # the loser had hardly begun
    assert cut / 20_000 == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0])
def test_a_share_is_between(share):
    with pytest.raises(ValueError, match="between 0 and 1"):
        LatencyQuantile(share)
