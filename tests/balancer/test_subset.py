"""Subsets: few connections, few changes, and all endpoints used alike."""

import random
from collections import Counter
from math import sqrt
from statistics import fmean, pstdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshkit.balancer.subset import Subset
from meshkit.endpoint import Endpoint, EndpointSet, State
from tests.balancer.nodes import endpoint, endpoints

FLEET = [f"{number:04}" for number in range(1_000)]


def ids(chosen: EndpointSet) -> list[str]:
    return list(chosen.by_id)


def subset(size: int, *, zone: str = "", seed: int = 1) -> Subset:
    return Subset(size, zone, random.Random(seed))


def changes(before: EndpointSet, after: EndpointSet) -> tuple[int, int]:
    """How many connections are made and closed."""
    one = {(e.id, e.address) for e in before}
    other = {(e.id, e.address) for e in after}
    return len(other - one), len(one - other)


MEMBERS = st.lists(
    st.builds(
        endpoint,
        st.sampled_from("abcdefghij"),
        weight=st.sampled_from([0, 50, 100]),
        state=st.sampled_from(State),
        zone=st.sampled_from(["", "eu-1", "eu-2"]),
    ),
    unique_by=lambda e: e.id,
)


def test_is_all_where_there_are_not_more():
    assert ids(subset(5).of(endpoints("a", "b", "c"))) == ["a", "b", "c"]
    assert ids(subset(5).of(endpoints())) == []


def test_carries_the_revision_and_what_changed():
    ours = subset(1)
    first = ours.of(endpoints("a", revision=1))
    second = ours.of(endpoints(endpoint("a", weight=7), revision=2))
    assert (first.revision, second.revision) == (1, 2)
    assert second.by_id["a"].weight == 7
    assert second.since(first).changed == (second.by_id["a"],)


@given(histories=st.lists(MEMBERS, min_size=1, max_size=6), size=st.integers(1, 6))
def test_what_came_before_does_not_matter(histories, size):
    ours, other = subset(size), subset(size)
    for members in histories:
        chosen = ours.of(endpoints(*members))
    assert list(chosen) == list(other.of(endpoints(*histories[-1])))


@given(members=MEMBERS, size=st.integers(1, 6), data=st.data(), zone=st.sampled_from(["", "eu-1"]))
def test_one_that_changes_changes_one_connection_at_most(members, size, data, zone):
    ours = subset(size, zone=zone)
    before = ours.of(endpoints(*members))
    change = data.draw(st.sampled_from(["come", "go", "drain", "park"]))
    if change == "come" or not members:
        members = [*members, endpoint("new", zone="eu-1")]
    else:
        chosen = data.draw(st.sampled_from(members))
        members = [e for e in members if e is not chosen]
        if change != "go":
            state = State.DRAINING if change == "drain" else State.SERVING
            weight = 0 if change == "park" else 100
            members.append(endpoint(chosen.id, state=state, weight=weight, zone=chosen.zone))
    made, closed = changes(before, ours.of(endpoints(*members)))
    assert made <= 1
    assert closed <= 1


@given(members=MEMBERS, size=st.integers(1, 6))
def test_those_that_take_calls_come_first(members, size):
    chosen = subset(size).of(endpoints(*members))

    def use(e: Endpoint) -> int:
        return 2 if e.weight == 0 else int(e.state is State.DRAINING)

    assert len(chosen) == min(size, len(members))
    left = [use(e) for e in members if e.id not in chosen.by_id]
    assert max(map(use, chosen), default=0) <= min(left, default=2)


def test_a_server_that_starts_again_on_its_address_keeps_its_clients():
    ours = subset(20)
    before = {e.address for e in ours.of(endpoints(*FLEET))}
    again = [endpoint(f"again-{name}", f"{name}:50051") for name in FLEET]
    assert {e.address for e in ours.of(endpoints(*again))} == before


def test_takes_as_many_of_the_own_zone_as_of_others():
    members = [endpoint(name, zone=f"eu-{int(name) % 4}") for name in FLEET]
    zones = Counter(e.zone for e in subset(20, zone="eu-1").of(endpoints(*members)))
    assert zones["eu-1"] == 20
    assert zones.total() == 40
    few = [endpoint(name, zone="eu-1") for name in "abc"]
    zones = Counter(e.zone for e in subset(20, zone="eu-1").of(endpoints(*few, *FLEET)))
    assert zones == {"eu-1": 3, "": 20}


@pytest.mark.parametrize(("clients", "size"), [(1_000, 20), (200, 20), (200, 100)])
def test_endpoints_are_used_alike_as_the_formula_says(clients, size):
    want = endpoints(*FLEET)
    used: Counter[str] = Counter(dict.fromkeys(FLEET, 0))
    for seed in range(clients):
        used.update(ids(subset(size, seed=seed).of(want)))
    mean = clients * size / len(FLEET)
    assert fmean(used.values()) == mean
    expected = sqrt((1 - size / len(FLEET)) / mean)
    assert pstdev(used.values()) / mean == pytest.approx(expected, rel=0.1)
    assert max(used.values()) < mean * (1 + 4.5 * expected)
