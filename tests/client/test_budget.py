"""What further attempts may cost, how far a call has come, and how slow calls are: pure."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from itertools import accumulate
from math import floor

import pytest
from hypothesis import given, settings
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


class Client:
    """Calls at even distances, whose attempts take `latency` seconds; the outage begins at 0.

    Attributes:
        calls: how many began in each second.
        attempts: and how many attempts.
    """

    def __init__(self, rate: int, latency: float, most: int, seed: int) -> None:
        self.calls: Counter[int] = Counter()
        self.attempts: Counter[int] = Counter()
        self._latency = latency
        self._most = most
        self._rng = random.Random(seed)
        self._budget = Budget(RetryLimits(), -3.0)
        self._due = [(number / rate, 0) for number in range(-3 * rate, 10 * rate)]

    def run(self) -> None:
        heapq.heapify(self._due)
        ends: list[tuple[float, int]] = []
        while self._due and self._due[0][0] < 10.0:
            if ends and ends[0] <= self._due[0]:
                self._end(*heapq.heappop(ends))
                continue
            now, tried = heapq.heappop(self._due)
            if not tried:
                self._budget.earn(now)
                self.calls[floor(now)] += 1
            self.attempts[floor(now)] += 1
            heapq.heappush(ends, (now + self._latency, tried + 1))

    def _end(self, now: float, tried: int) -> None:
        self._budget.ended()
        if now >= 0.0:
            self._budget.failed()
            if tried < self._most and self._budget.spend(now):
                wait = 0.1 * 2**tried * self._rng.random()
                heapq.heappush(self._due, (now + wait, tried))


@settings(deadline=None, max_examples=50)
@given(
    rate=st.one_of(st.integers(10, 50), st.integers(50, 300)),
    latency=st.sampled_from([0.0, 0.01, 0.1, 1.0]),
    most=st.integers(2, 5),
    seed=st.integers(0, 100),
)
def test_attempts_stay_below_five_quarters_of_the_calls_when_everything_fails(
    rate, latency, most, seed
):
    client = Client(rate, latency, most, seed)
    client.run()
    calls, attempts = (
        [counter[second] for second in range(10)] for counter in (client.calls, client.attempts)
    )
    assert sum(attempts) <= 1.25 * sum(calls)
    assert attempts[0] <= 1.25 * calls[0] + 20  # `per_second`, and what is left of it
    later = int(latency) + 2
    for second in range(later, 10):  # a retry may come a second after its call
        assert attempts[second] <= 1.25 * calls[second] + 2


@given(in_flight=st.integers(3, 1000), rate=st.integers(1, 2000))
def test_what_a_third_of_the_servers_had_under_way_is_tried_again(in_flight, rate):
    """While calls take up to 0.1 s."""
    in_flight = min(in_flight, max(1, rate // 10))
    budget = Budget(RetryLimits(), 0.0)
    now = 0.0
    for number in range(3 * rate):
        now = number / rate
        budget.earn(now)
        if number < 3 * rate - in_flight:
            budget.ended()
    for _ in range(in_flight // 3):
        budget.ended()
        budget.failed()
        assert budget.spend(now)


@given(calls=st.integers(3, 50))
def test_so_is_a_third_of_calls_that_began_at_once(calls):
    budget = Budget(RetryLimits(), 0.0)
    for _ in range(calls):
        budget.earn(1.0)
    for _ in range(calls - calls // 3):
        budget.ended()
    for _ in range(calls // 3):
        budget.ended()
        budget.failed()
        assert budget.spend(1.01)


@given(rate=st.integers(1, 25), seed=st.integers(0, 100))
def test_a_client_with_few_calls_loses_none_while_one_of_three_servers_fails(rate, seed):
    rng = random.Random(seed)
    budget = Budget(RetryLimits(), 0.0)
    for number in range(500):
        now = number / rate
        budget.earn(now)
        budget.ended()
        if rng.random() < 1 / 3:
            budget.failed()
            assert budget.spend(now)
            budget.ended()  # elsewhere, and well


def test_a_single_success_is_enough_to_try_again():
    budget = Budget(RetryLimits(share=0.0, per_second=10.0), 0.0)
    spent = 0
    for _ in range(20):
        budget.ended()
        budget.failed()
        spent += budget.spend(0.0)
    assert spent == 4
    assert not budget.spend(99.0)  # time alone does not help
    budget.ended()
    assert budget.spend(99.0)


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
    assert 480 <= saved(0.14) <= 510
    assert saved(100.0) == 1


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
