"""What the benchmarks make of what they measure."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.clients import Plan
from benchmarks.figures import percentile, spread, verdict
from benchmarks.load import Slice
from benchmarks.processes import cpu_of, on_cores, running, split_cores, wait_listening

PLAN = Plan("grpc round_robin", ("127.0.0.1:1",), "seed", rate=400.0, warm=1.0, seconds=4.0)


@given(st.lists(st.floats(0, 1e3), min_size=1), st.floats(0, 1))
def test_a_percentile_is_one_of_the_values_and_few_are_above_it(values: list[float], share: float):
    found = percentile(values, share)
    assert found in values
    assert sum(value > found for value in values) <= (1 - share) * len(values)


def test_the_spread_is_the_quartiles_or_of_few_the_extremes():
    assert spread([3.0, 1.0, 2.0]) == " 2.00 (1.00-3.00)"
    assert spread([1.0, 2.0, 3.0, 4.0, 100.0], "6.1f") == "   3.0 (1.5-52.0)"


def test_a_missed_target_is_said_aloud():
    assert verdict(False) != verdict(True) == "reached"


def test_a_slice_is_compared_figure_by_figure():
    base = Slice(rate=100.0, cpu=2.0, p50=1.0, p99=4.0)
    other = Slice(rate=300.0, cpu=4.0, p50=3.0, p99=8.0)
    assert other / base == Slice(rate=3.0, cpu=2.0, p50=3.0, p99=2.0)
    assert base.between(other) == Slice(rate=200.0, cpu=3.0, p50=2.0, p99=6.0)


def test_policies_meet_the_same_arrivals_at_the_rate_that_was_asked_for():
    arrivals = list(PLAN.arrivals())
    assert arrivals == list(PLAN.arrivals()) == sorted(arrivals)
    assert len(arrivals) == pytest.approx(5.0 * 400, rel=0.1)
    assert arrivals[-1] < 5.0


def test_a_process_and_its_threads_run_where_they_are_told_and_their_cpu_is_known():
    _, others = split_cores()
    burn = "import os; print(os.sched_getaffinity(0), flush=True)\nwhile True: pass"
    with running(["python3", "-c", burn], cores=others) as process:
        assert process.stdout.readline().strip() == str(others)
        before = cpu_of(process.pid)
        while cpu_of(process.pid) < before + 0.05:
            pass
    assert process.returncode == -9


def test_the_cores_of_this_process_are_as_before():
    before = split_cores()
    with on_cores({min(before[0])}):
        assert split_cores() == (before[0], before[0])
    assert split_cores() == before


def test_a_process_that_ends_instead_of_listening_is_an_error():
    with running(["false"]) as process, pytest.raises(RuntimeError, match="does not listen"):
        wait_listening(process, 9)
