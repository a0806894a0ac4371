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
