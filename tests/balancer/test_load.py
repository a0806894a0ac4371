import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshkit.balancer.load import Load


def test_counts_calls_from_start_to_end():
    load = Load()
    load.start()
    load.start()
    load.start()
    load.finish(0.1, 1.0)
    load.finish(0.1, 1.0)
    load.fail()
    assert (load.started, load.pending, load.finished, load.failed) == (3, 1, 2, 1)
    assert repr(load) == "<Load: 1 of 3 pending, 1 failed>"


@given(st.lists(st.sampled_from(["start", "ok", "failed"])))
def test_pending_is_never_negative_and_nothing_is_lost(steps):
    load = Load()
    started = finished = failed = 0
    for step in steps:
        if step == "start":
            load.start()
            started += 1
        elif started > finished:
            load.finish(0.1, 1.0)
            finished += 1
            if step == "failed":
                load.fail()
                failed += 1
        else:
            with pytest.raises(RuntimeError, match="without start"):
                load.finish(0.1, 1.0)
        assert load.pending == started - finished >= 0
        assert (load.started, load.finished, load.failed) == (started, finished, failed)


def done(load: Load, took: float | None, now: float, *, failed: bool = False) -> Load:
    """One call more."""
    load.start()
    load.finish(took, now)
    if failed:
        load.fail()
    return load


class TestLearning:
    def test_the_first_call_is_all_that_is_known(self):
        load = done(Load(), 0.5, 100.0)
        assert (load.cost, load.peak, load.latency, load.success) == (0.5, 0.5, 0.5, 1.0)

    def test_of_the_first_few_the_best_counts(self):
        """The first call of a connection is slow by what comes before it."""
        load = Load()
        for took in (0.5, 0.1, 0.2, 0.3):
            done(load, took, 100.0)
        assert load.cost == 0.1

    def test_the_next_ones_count_alike(self):
        load = Load()
        for took in (0.1, 0.1, 0.1, 0.1, 0.2, 0.3, 0.1, 0.1):
            done(load, took, 100.0)
        assert load.cost == pytest.approx(1.1 / 8)

    @given(st.lists(st.tuples(st.floats(0.0, 60.0), st.floats(0.0, 30.0)), min_size=1))
    def test_the_average_is_within_what_was_seen_and_the_peak_above_it(self, calls):
        load, now = Load(), 0.0
        for took, waited in calls:
            now += waited
            done(load, took, now)
        seen = [took for took, _ in calls]
        assert min(seen) - 1e-9 <= load.cost <= max(seen) + 1e-9
        assert load.cost - 1e-9 <= load.peak <= max(seen) + 1e-9

    def test_a_peak_is_known_at_once_and_forgotten_slowly(self):
        load = Load()
        for number in range(1_000):
            done(load, 0.010, number / 100)
        done(load, 1.0, 10.0)
        assert load.peak == 1.0
        assert load.cost < 0.020
        for number in range(1_000):
            done(load, 0.010, 10 + number / 100)
        assert load.peak == pytest.approx(0.010 + 0.990 / math.e, rel=0.01)

    def test_the_average_follows_in_ten_seconds_however_many_calls_there_are(self):
        for rate in (1, 100):
            load = Load()
            for number in range(100 * rate):
                done(load, 0.010, number / rate)
            for number in range(10 * rate):
                done(load, 0.1, 100 + number / rate)
            assert load.cost == pytest.approx(0.010 + 0.090 * (1 - 1 / math.e), rel=0.06)

    def test_a_burst_tells_no_more_than_one_call(self):
        load = Load()
        for number in range(2_000):
            done(load, 0.010, number / 100)
        for number in range(1_000):
            done(load, 0.009, 20.0 + number / 1_000_000)
        assert load.finished == 3_000
        assert load.samples == 2_001
        done(load, 0.5, 20.001)  # but a worse one is heard at once, and so is a failure
        assert load.peak == 0.5
        cost = load.cost
        done(load, 0.010, 20.001, failed=True)
        assert load.success < 1.0
        done(load, 0.010, 20.001, failed=True)
        assert load.cost > cost

    def test_a_pause_counts_as_one_call_among_many(self):
        load = Load()
        for number in range(1_000):
            done(load, 0.002, number / 500)
        done(load, 0.5, 2.5)
        assert load.cost < 0.005

    def test_a_pause_counts_as_a_few_while_little_is_known(self):
        load = Load()
        for number in range(6):
            done(load, 0.001, number / 10)
        done(load, 0.1, 0.7)
        assert load.cost == pytest.approx(0.001 * (6 + 4) / 7)

    def test_slowness_is_believed_while_little_is_known(self):
        load = Load()
        for number in range(6):
            done(load, 0.001, number / 10)
        for number in range(5):
            done(load, 0.1, 0.7 + number / 10)
        assert load.cost > 0.003

    def test_but_lasting_slowness_is_believed(self):
        load = Load()
        for number in range(1_000):
            done(load, 0.002, number / 500)
        for number in range(100):
            done(load, 10.0, 2.0 + number / 10)
        assert load.cost > 4.0

    def test_what_is_old_is_worth_less(self):
        load = done(Load(), 1.0, 50.0)
        assert [round(load.fresh(now), 3) for now in (0.0, 50.0, 60.0, 80.0)] == [1, 1, 0.368, 0.05]

    def test_who_fails_fast_looks_slow(self):
        load = Load()
        for number in range(100):
            done(load, 0.001, number / 10, failed=number % 2 == 1)
        assert load.cost > 0.4
        assert load.latency == pytest.approx(0.001)
        assert load.success == pytest.approx(0.5, abs=0.1)

    def test_it_recovers(self):
        load = done(Load(), 0.001, 0.0, failed=True)
        assert (load.success, load.cost) == (0.0, 1.001)
        for number in range(1_000):
            done(load, 0.001, 1 + number / 20)
        assert load.success == pytest.approx(1.0, abs=0.01)
        assert load.cost == pytest.approx(0.001, abs=0.01)

    @given(st.lists(st.tuples(st.floats(0.0, 30.0), st.integers(0, 3))))
    def test_success_is_a_share_even_when_failures_are_told_late(self, steps):
        load, now = Load(), 0.0
        for waited, failures in steps:
            now += waited
            done(load, 0.001, now)
            for _ in range(min(failures, load.finished - load.failed)):
                load.fail()
            assert 0.0 <= load.success <= 1.0
            assert load.latency >= 0.0

    def test_a_stream_tells_by_its_first_message(self):
        load = Load()
        load.start()
        load.respond(0.010, 1.0)
        load.finish(None, 3_600.0)
        assert (load.cost, load.finished, load.pending) == (0.010, 1, 0)

    def test_streams_that_tell_nothing_leave_nothing_known(self):
        load = done(done(Load(), None, 10.0), None, 20.0)
        assert (load.cost, load.samples) == (0.0, 0)
        assert done(load, 0.5, 30.0).cost == 0.5
