import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshkit.backoff import Backoff


class Highest(random.Random):
    """Dice that always draw the ceiling."""

    def uniform(self, a, b):
        return b


def first(count, backoff, rng):
    return list(itertools.islice(backoff.delays(rng), count))


def test_ceilings_grow_to_the_limit():
    assert first(5, Backoff(first=0.1, limit=0.5), Highest()) == [0.1, 0.2, 0.4, 0.5, 0.5]
    assert first(3, Backoff(first=1, limit=9, factor=1), Highest()) == [1, 1, 1]


@given(
    st.floats(0.001, 10),
    st.floats(1, 100),
    st.floats(1, 5),
    st.integers(0, 2**32),
    st.integers(1, 40),
)
def test_delays_are_between_nothing_and_the_ceiling(begin, times, factor, seed, count):
    backoff = Backoff(first=begin, limit=begin * times, factor=factor)
    ceilings = first(count, backoff, Highest())
    assert ceilings == sorted(ceilings)
    assert ceilings[-1] <= backoff.limit
    delays = first(count, backoff, random.Random(seed))
    assert all(0 <= delay <= ceiling for delay, ceiling in zip(delays, ceilings, strict=True))


def test_delays_are_spread_over_all_that_is_allowed():
    drawn = [next(Backoff(first=1, limit=1).delays(random.Random(seed))) for seed in range(200)]
    assert min(drawn) < 0.1
    assert max(drawn) > 0.9


@pytest.mark.parametrize("wrong", [{"first": 0}, {"first": -1}, {"first": 4}, {"factor": 0.9}])
def test_what_would_not_grow_is_refused(wrong):
    with pytest.raises(ValueError, match="need"):
        Backoff(**wrong)
