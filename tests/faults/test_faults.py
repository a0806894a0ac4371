"""The scenarios, small enough for every run of the tests: counts are strict, times are generous."""

from __future__ import annotations

from dataclasses import replace

import pytest

from meshkit.testing.etcd import find_etcd
from tests.faults.cluster_faults import OF_CLUSTER
from tests.faults.crowd import crowd
from tests.faults.endings import ALONE, ENDINGS, ending
from tests.faults.fleet import Size
from tests.faults.outages import outage
from tests.faults.outcome import Outcome
from tests.faults.registry_faults import GUARDED, LATE, OF_DATA, OF_ETCD, OF_THE_WAY
from tests.faults.scenarios import hung, kill, policies, rolling, streams_cut

pytestmark = [
    pytest.mark.etcd,
    pytest.mark.timeout(120),
    pytest.mark.skipif(find_etcd() is None, reason="no etcd here"),
]

SMALL = Size(servers=3, rate=50, stream_seconds=1.5, ttl=3, seconds=1)
SHORT = Size(servers=3, clients=1, rate=100, stream_seconds=1.5, ttl=2, seconds=1)


def check(outcome: Outcome) -> None:
    print(outcome.line())
    assert not outcome.problems, outcome.line()


def test_a_rolling_restart_loses_no_call():
    check(rolling(replace(SMALL, distance=0.05)))


def test_a_killed_server_takes_only_its_own_calls_with_it():
    check(kill(SMALL))


def test_a_live_change_of_the_policy_loses_no_call():
    check(policies(SMALL))


def test_a_server_that_hangs_is_left_alone_and_found_again():
    check(hung(Size(servers=3, clients=1, rate=50, deadline=2, ttl=15, seconds=10)))


def test_streams_that_outlive_the_grace_are_told_and_cut():
    check(streams_cut(Size(servers=2, clients=1, rate=20, streams=6, stream_seconds=5, grace=1.5)))


# One registry suffers all faults of a kind, one after the other: it costs a third of the time, and
# what one fault leaves behind is there when the next one comes.


def test_whatever_happens_to_etcd_is_not_noticed():
    check(outage("of etcd", OF_ETCD, SHORT))


def test_whatever_happens_to_its_data_is_not_noticed():
    check(outage("of its data", OF_DATA, SHORT))


def test_whatever_happens_on_the_way_to_it_is_not_noticed():
    check(outage("of the way", OF_THE_WAY, SHORT))


def test_whatever_happens_to_members_of_a_cluster_is_not_noticed():
    check(outage("of a cluster", OF_CLUSTER, SHORT))


def test_auth_tokens_that_expire_or_are_forgotten_are_not_noticed():
    check(outage(GUARDED.name, [GUARDED], SHORT))


def test_servers_and_clients_that_were_there_before_etcd():
    check(outage(LATE.name, [LATE], replace(SHORT, deadline=30)))


def test_a_crowd_that_comes_and_goes_costs_no_call():
    check(crowd(replace(SHORT, crowd=500)))


@pytest.mark.parametrize("name", ENDINGS)
def test_a_server_ends_at_a_bad_moment(name: str):
    check(ending(name, replace(ALONE, grace=2)))
