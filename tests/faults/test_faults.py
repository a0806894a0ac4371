"""The scenarios, small enough for every run of the tests: counts are strict, times are generous."""

from __future__ import annotations

from dataclasses import replace

import pytest

from meshkit.testing.etcd import find_etcd
from tests.faults.fleet import Size
from tests.faults.outages import etcd_restart, etcd_stop, etcd_wipe
from tests.faults.outcome import Outcome
from tests.faults.scenarios import hung, kill, rolling, streams_cut

pytestmark = [
    pytest.mark.etcd,
    pytest.mark.skipif(find_etcd() is None, reason="no etcd here"),
]

SMALL = Size(servers=3, rate=50, stream_seconds=1.5, ttl=3, seconds=1)


def check(outcome: Outcome) -> None:
    print(outcome.line())
    assert not outcome.problems, outcome.line()


def test_a_rolling_restart_loses_no_call():
    check(rolling(replace(SMALL, distance=0.05)))


def test_a_killed_server_takes_only_its_own_calls_with_it():
    check(kill(SMALL))


def test_a_server_that_hangs_is_left_alone_and_found_again():
    check(hung(Size(servers=3, clients=1, rate=50, deadline=2, ttl=15, seconds=10)))


def test_streams_that_outlive_the_grace_are_told_and_cut():
    check(streams_cut(Size(servers=2, clients=1, rate=20, streams=6, stream_seconds=5, grace=1.5)))


def test_a_frozen_etcd_that_ends_all_leases_is_not_noticed():
    check(etcd_stop(Size(servers=3, rate=50, stream_seconds=1.5, ttl=2, seconds=3)))


def test_a_restarted_etcd_is_not_noticed():
    check(etcd_restart(SMALL))


def test_an_etcd_that_lost_its_data_is_not_noticed():
    check(etcd_wipe(SMALL))
