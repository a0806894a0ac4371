"""Groups: some of a balancer's nodes with a picker of their own, and one history for all."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshkit.balancer import (
    EVERY,
    OutlierDetection,
    Readiness,
    RoundRobin,
    Selection,
    Selector,
    ZoneAware,
)
from meshkit.balancer.selector import Selected
from meshkit.endpoint import EndpointSet, State
from tests.balancer.nodes import CALL, FakeNode, endpoint, endpoints, new_balancer, picker_of
from tests.balancer.world import World

V1, V2, BETA = Selector("v1"), Selector("v2"), Selector(labels=frozenset({("track", "beta")}))
ONE_FAILURE = OutlierDetection(consecutive_failures=1, base_ejection_time=5.0, panic_threshold=0)


def grouped(world: World, *selectors: Selector) -> World:
    for selector in selectors:
        world.balancer.adopt(picker_of(RoundRobin, random.Random(1)), selector)
    return world


def versions(**sizes: int) -> list:
    return [endpoint(f"{v}-{i}", version=v) for v, size in sizes.items() for i in range(size)]


def canary(detection: OutlierDetection = ONE_FAILURE, **sizes: int) -> World:
    """A world with a group for each version."""
    world = World(detection=detection)
    world.want(*versions(**sizes))
    return grouped(world, *map(Selector, sizes))


def picks(world: World, selector: Selector, times: int = 60) -> Counter[str]:
    group = world.balancer.group(selector)
    found = (group.pick(CALL) for _ in range(times))
    return Counter(node.endpoint.id for node in found if node is not None)


def test_each_group_has_its_own_nodes_and_its_own_turn():
    world = canary(v1=3, v2=2)
    assert picks(world, V1) == {"v1-0": 20, "v1-1": 20, "v1-2": 20}
    assert picks(world, V2) == {"v2-0": 30, "v2-1": 30}
    assert set(picks(world, EVERY)) == {"v1-0", "v1-1", "v1-2", "v2-0", "v2-1"}


@pytest.mark.parametrize("before", [True, False])
def test_nodes_that_come_and_go_are_in_their_groups(before):
    """Whether they come before the group or after it."""
    world = World()
    if not before:
        grouped(world, V1, V2)
    world.want(*versions(v1=1, v2=1))
    if before:
        grouped(world, V1, V2)
    world.want(*versions(v1=2))
    assert picks(world, V1) == {"v1-0": 30, "v1-1": 30}
    assert picks(world, V2) == {}
    assert world.balancer.group(V2).counts() == World().balancer.counts()


def test_another_label_is_another_group_and_the_same_node():
    world = canary(v1=2, v2=0)
    grouped(world, BETA)
    node = world["v1-0"]
    world.end(node)
    world.want(
        endpoint("v1-0", version="v2", metadata={"track": "beta"}), endpoint("v1-1", version="v1")
    )
    assert world["v1-0"] is node
    assert (picks(world, V1), picks(world, V2)) == ({"v1-1": 60}, {"v1-0": 60})
    assert picks(world, BETA) == {"v1-0": 60}
    assert node.finished == 1


def test_readiness_counts_in_each_group():
    world = canary(v1=1, v2=2)
    world.balancer.set_readiness(world["v2-0"], Readiness.FAILING)
    assert picks(world, V2) == {"v2-1": 60}
    assert str(world.balancer.group(V2).counts()) == "1 ready, 1 failing"
    assert str(world.balancer.group(V1).counts()) == "1 ready"


def test_a_group_that_is_made_anew_knows_who_is_ejected():
    world = canary(v1=4, v2=2)
    world.fail("v2-0", times=1)
    world.balancer.dissolve(V2)
    grouped(world, V2)
    assert picks(world, V2) == {"v2-1": 60}


def test_another_attempt_stays_in_the_group():
    world = canary(v1=3, v2=2)
    group = world.balancer.group(V2)
    a, b = world["v2-0"], world["v2-1"]
    assert {group.pick_other(CALL, {a}) for _ in range(20)} == {b}
    assert {group.pick_other(CALL, {a, b}) for _ in range(20)} <= {a, b}


def test_only_calls_of_its_group_try_an_ejected_node():
    world = canary(v1=4, v2=2)
    world.fail("v2-0", times=1)
    world.sleep(60)
    assert set(picks(world, V1)) == {"v1-0", "v1-1", "v1-2", "v1-3"}
    first = world.balancer.group(V2).pick(CALL)
    assert first is world["v2-0"]
    world.end(first)
    assert world.ejected == []


def test_of_several_that_are_due_each_group_tries_its_own():
    world = canary(OutlierDetection(consecutive_failures=1, panic_threshold=0), v1=4, v2=4)
    for name in ("v1-0", "v2-0", "v1-1"):
        world.fail(name, times=1)
    world.sleep(600)
    tried = [world.balancer.group(selector).pick(CALL).endpoint.id for selector in (V2, V1, V1)]
    assert tried == ["v2-0", "v1-0", "v1-1"]


def test_a_group_is_usable_while_somebody_is_there_or_has_to_be_tried():
    world = canary(v1=4, v2=1)
    group, node = world.balancer.group(V2), world["v2-0"]
    assert group.is_usable
    world.fail("v2-0", times=1)
    assert not group.is_usable
    world.sleep(60)
    assert group.is_usable  # to be tried
    assert group.pick(CALL) is node
    assert not group.is_usable  # it is being tried
    world.end(node)
    assert group.is_usable
    world.balancer.set_readiness(node, Readiness.FAILING)
    assert not group.is_usable
    world.balancer.set_readiness(node, Readiness.CONNECTING)
    assert group.is_usable  # soon
    world.want(*versions(v1=4))
    assert not group.is_usable


@pytest.mark.parametrize(
    ("change", "usable"), [({"weight": 0}, False), ({"state": State.DRAINING}, True)]
)
def test_the_parked_are_of_no_use_and_the_draining_are(change, usable):
    world = canary(v1=1, v2=0)
    world.want(*versions(v1=1), endpoint("x", version="v2", **change))
    assert world.balancer.group(V2).is_usable is usable


def test_panic_is_a_matter_of_the_group():
    """Half of the service is not the half of a canary."""
    world = canary(OutlierDetection(consecutive_failures=1), v1=8, v2=2)
    world.fail("v2-0", times=1)
    world.fail("v2-1", times=1)
    assert world.ejected == ["v2-0", "v2-1"]
    assert set(picks(world, EVERY)) == {f"v1-{i}" for i in range(8)}
    assert set(picks(world, V2)) == {"v2-0", "v2-1"}  # rather than nobody
    assert not world.balancer.group(V2).is_usable  # but others are better, if they may


def test_the_next_try_is_that_of_any_group():
    world = canary(v1=4, v2=1)
    world.balancer.group(V2).pick(CALL)
    world.fail("v2-0", times=1)
    assert world.balancer.group().next_try is None
    assert world.balancer.next_try == world.balancer.group(V2).next_try
    assert 4.5 < world.balancer.next_try - world.now < 5.5 + 4.5


# ---- zones and subsets of groups


class Client:
    """A client with groups for versions; connections are up at once."""

    def __init__(self, *members, subset=None, zone="", selectors=(V1, V2), seed=1) -> None:
        rng = random.Random(seed)
        self.selection = Selection(subset, zone, ZoneAware(), rng, lambda: 0.0)
        self.balancer = new_balancer(self.selection.picker(RoundRobin()), rng=rng)
        for selector in selectors:
            self.balancer.adopt(self.selection.picker(RoundRobin(), selector), selector)
        self.want(*members)

    def want(self, *members) -> None:
        self.balancer.reconcile(self.selection.of(endpoints(*members)))
        for node in self.balancer.nodes:
            self.balancer.set_readiness(node, Readiness.READY)

    def spread(self, selector: Selector, of: str, calls: int = 3_000) -> dict[str, float]:
        group = self.balancer.group(selector)
        found = Counter(getattr(group.pick(CALL).endpoint, of) for _ in range(calls))
        return {key: count / calls for key, count in found.items()}


def test_a_group_has_zones_of_its_own():
    """v2 is not in zone a: its calls go to b, while those of v1 stay in a."""
    fleet = [endpoint(f"1{z}{i}", version="v1", zone=z) for z in "ab" for i in range(4)]
    fleet += [endpoint(f"2b{i}", version="v2", zone="b") for i in range(6)]
    client = Client(*fleet, zone="a")
    assert client.spread(V1, "zone") == {"a": 1.0}
    assert client.spread(V2, "zone") == {"b": 1.0}


def test_a_group_has_a_subset_of_its_own():
    fleet = versions(v1=200, v2=2)
    for seed in range(20):
        client = Client(*fleet, subset=5, seed=seed)
        assert set(client.spread(V2, "id")) == {"v2-0", "v2-1"}
        assert len(client.spread(V1, "id")) >= 5
        assert len(client.balancer.nodes) <= 12
        client.selection.forget(V2)
        client.balancer.dissolve(V2)
        client.want(*fleet)
        assert len(client.balancer.nodes) <= 10


def test_the_subset_of_a_group_follows_what_comes_and_goes():
    client = Client(*versions(v1=20), subset=5)
    assert not client.balancer.group(V2).is_usable
    client.want(*versions(v1=20, v2=1))
    assert client.spread(V2, "id") == {"v2-0": 1.0}
    client.want(*versions(v1=20))
    assert not client.balancer.group(V2).is_usable


members = st.dictionaries(
    st.sampled_from("abcdefgh"), st.tuples(st.sampled_from(["v1", "v2"]), st.integers(1, 2))
)


@given(st.lists(members, max_size=6))
def test_what_is_selected_is_what_would_be_selected_anew(steps):
    selected = Selected(V2)
    for number, step in enumerate(steps):
        now = endpoints(
            *(endpoint(n, version=v, weight=w) for n, (v, w) in step.items()), revision=number
        )
        found = selected.of(now)
        assert list(found) == [e for e in now if e.version == "v2"]
        assert found.revision == number


def test_all_are_selected_at_no_price():
    now = EndpointSet.of("orders", [endpoint("a")])
    assert Selected(EVERY).of(now) is now


def test_nodes_are_never_in_a_group_that_does_not_take_them():
    """Any order of changes leaves each group with what its selector takes."""
    rng = random.Random(3)
    world = grouped(World(), V1, V2, BETA)
    for _ in range(300):
        world.want(
            *(
                endpoint(
                    name,
                    version=rng.choice(["v1", "v2"]),
                    metadata=rng.choice([{}, {"track": "beta"}]),
                    weight=rng.choice([0, 100]),
                )
                for name in "abcdef"
                if rng.random() < 0.7
            )
        )
        nodes: list[FakeNode] = list(world.balancer.nodes)
        for node in nodes:
            world.balancer.set_readiness(node, rng.choice(list(Readiness)))
        for selector in (EVERY, V1, V2, BETA):
            group = world.balancer.group(selector)
            held = [n for state in group.states.nodes.values() for n in state]
            assert sorted(n.endpoint.id for n in held) == [
                n.endpoint.id for n in nodes if selector.takes(n.endpoint)
            ]
            assert all(group.states.of(n) == world.balancer.state_of(n) for n in held)
