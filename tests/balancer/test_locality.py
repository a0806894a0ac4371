"""Zones: what stays, what spills over, and how calm it is."""

import random
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshkit.balancer import Readiness, RingHash, RoundRobin, Selection, ZoneAware
from meshkit.endpoint import State
from meshkit.errors import ConfigError
from tests.balancer.nodes import Call, FakeNode, endpoint, endpoints, new_balancer

SIZES = st.dictionaries(st.sampled_from(["a", "b", "c", "d"]), st.integers(1, 50), min_size=1)


def shares(own: str, fleet: dict[str, int], **health: float) -> dict[str, float]:
    found = ZoneAware().shares(own, fleet, {zone: health.get(zone, 1.0) for zone in fleet})
    return {zone: round(share, 3) for zone, share in found.items()}


class TestShares:
    @pytest.mark.parametrize(
        ("healthy", "here"), [(1.0, 1.0), (0.75, 1.0), (0.7, 0.98), (0.4, 0.56), (0.0, 0.0)]
    )
    def test_a_zone_gives_away_what_it_cannot_take(self, healthy, here):
        found = shares("a", {"a": 10, "b": 10, "c": 10}, a=healthy)
        elsewhere = {"b": (1 - here) / 2, "c": (1 - here) / 2}
        expected = {"a": here} | elsewhere
        assert found == {z: pytest.approx(s, abs=1e-3) for z, s in expected.items() if s}

    def test_what_spills_over_goes_where_there_is_room(self):
        assert shares("a", {"a": 5, "b": 10, "c": 15}) == {"a": 0.5, "c": 0.5}

    def test_beyond_the_room_that_there_is_all_take_alike(self):
        found = shares("a", {"a": 10, "b": 10, "c": 11}, a=0.0)
        # A part is 31/3; c has 2/3 to spare, the rest goes to both as they are large.
        part, spare = Fraction(31, 3), Fraction(2, 3)
        rest = (part - spare) / part
        assert found["b"] == pytest.approx(float(rest * Fraction(10, 21)), abs=1e-3)
        assert found["c"] == pytest.approx(float(1 - rest * Fraction(10, 21)), abs=1e-3)

    def test_the_last_server_of_a_zone_does_not_get_what_nobody_has_room_for(self):
        found = shares("a", {"a": 5, "b": 21}, b=1 / 21)
        # A part is 13. There is room for 5 and 1.4, and zone a can be strained to take 7: of the
        # other 6, which nobody should have, each of the six servers gets one.
        assert found == {
            "a": pytest.approx(12 / 13, abs=1e-3),
            "b": pytest.approx(1 / 13, abs=1e-3),
        }

    def test_a_client_whose_zone_has_no_servers_uses_all_others(self):
        assert shares("x", {"a": 10, "b": 30}) == {"a": 0.25, "b": 0.75}

    def test_other_zones_that_are_down_get_nothing(self):
        assert shares("a", {"a": 2, "b": 10, "c": 10}, b=0.0, c=0.0) == {"a": 1.0}
        assert shares("a", {"a": 2, "b": 10, "c": 10}, a=0.0, b=0.0) == {"c": 1.0}
        assert shares("a", {"a": 2, "b": 10}, a=0.0, b=0.0) == {}

    @given(fleet=SIZES)
    def test_all_servers_get_the_same_when_clients_are_spread_evenly(self, fleet):
        load: Counter[str] = Counter()
        for own in fleet:
            for zone, share in ZoneAware().shares(own, fleet, dict.fromkeys(fleet, 1.0)).items():
                load[zone] += share / len(fleet)
        for zone, weight in fleet.items():
            assert load[zone] / weight == pytest.approx(1 / sum(fleet.values()))

    @given(fleet=SIZES, data=st.data())
    def test_are_shares_and_change_little_with_one_server(self, fleet, data):
        ready = {zone: data.draw(st.integers(0, size)) for zone, size in fleet.items()}
        own, failing = (data.draw(st.sampled_from(sorted(fleet))) for _ in range(2))

        def found() -> dict[str, float]:
            health = {zone: ready[zone] / fleet[zone] for zone in fleet}
            return ZoneAware().shares(own, fleet, health)

        before = found()
        assert sum(before.values()) == pytest.approx(1.0 if any(ready.values()) else 0.0)
        assert all(ready[zone] for zone in before)
        ready[failing] = max(0, ready[failing] - 1)
        after = found()
        if sum(ready.values()) >= 5:
            part = sum(fleet.values()) / len(fleet)
            for zone in fleet:
                moved = abs(after.get(zone, 0.0) - before.get(zone, 0.0))
                assert moved <= max(3 / part, 3 / sum(ready.values())), (before, after)


def test_the_factor_is_at_least_one():
    with pytest.raises(ConfigError, match="overprovisioning_factor: must be a number of 1 or more"):
        ZoneAware(overprovisioning_factor=0.5)


class Fleet:
    """A client in zone a, and servers in zones a, b and c that can be made to fail."""

    def __init__(self, policy=None, *, subset=None, seed=1, **sizes: int) -> None:
        rng = random.Random(seed)
        self.selection = Selection(subset, "a", ZoneAware(), rng, lambda: 0.0)
        picker = self.selection.picker(policy or RoundRobin())
        self.balancer = new_balancer(picker, rng=rng)
        self.members = {
            f"{zone}{number:02}": endpoint(f"{zone}{number:02}", zone=zone)
            for zone, size in sizes.items()
            for number in range(size)
        }
        self.update()

    def update(self) -> None:
        self.balancer.reconcile(self.selection.of(endpoints(*self.members.values())))
        for node in self.balancer.nodes:
            self.balancer.set_readiness(node, Readiness.READY)

    def fail(self, zone: str, count: int) -> None:
        nodes = [node for node in self.balancer.nodes if node.endpoint.zone == zone]
        for place, node in enumerate(nodes):
            ready = Readiness.FAILING if place < count else Readiness.READY
            self.balancer.set_readiness(node, ready)

    def pick(self, **metadata: str) -> FakeNode:
        return self.balancer.pick(Call(**metadata))

    def spread(self, calls: int = 4_000) -> dict[str, float]:
        """The share of calls that each zone gets."""
        picks = Counter(self.pick().endpoint.zone for _ in range(calls))
        return {zone: picks[zone] / calls for zone in "abc"}


@pytest.mark.parametrize(("lost", "here"), [(0, 1.0), (2, 1.0), (3, 0.98), (6, 0.56), (10, 0.0)])
def test_calls_spill_over_as_servers_fail(lost, here):
    fleet = Fleet(a=10, b=10, c=10)
    fleet.pick()
    fleet.fail("a", lost)
    spread = fleet.spread()
    assert spread["a"] == pytest.approx(here, abs=0.03 if 0 < here < 1 else 0)
    assert spread["b"] == pytest.approx((1 - here) / 2, abs=0.03)
    fleet.fail("a", 0)
    assert fleet.spread(100) == {"a": 1.0, "b": 0.0, "c": 0.0}


def test_shares_stay_as_they_are_while_nobody_comes_or_goes():
    """Calls that pile up, or end, change nothing: there is nothing that could swing."""
    fleet = Fleet(a=10, b=10, c=10)
    fleet.fail("a", 6)
    fleet.pick()
    before = fleet.selection.zone_shares()
    for _ in range(500):
        fleet.pick().start()
    assert fleet.selection.zone_shares() == before


def test_within_a_zone_the_policy_is_as_good_as_ever():
    fleet = Fleet(a=10, b=10, c=10)
    picks = Counter(fleet.pick() for _ in range(1_000))
    assert set(picks.values()) == {100}
    assert len(picks) == 10


def test_small_services_do_not_tell_zones_apart():
    fleet = Fleet(a=1, b=2, c=2)
    assert fleet.spread(500) == {"a": 0.2, "b": 0.4, "c": 0.4}
    assert fleet.selection.zone_shares() == {}
    fleet.members["c02"] = endpoint("c02", zone="c")
    fleet.update()
    assert fleet.spread()["a"] == pytest.approx(0.5, abs=0.03)
    del fleet.members["c02"]
    fleet.update()
    assert fleet.spread(500) == {"a": 0.2, "b": 0.4, "c": 0.4}


def test_those_that_drain_and_those_of_weight_0_are_not_missed():
    fleet = Fleet(a=10, b=10, c=10)
    for number in range(4):
        fleet.members[f"a{number:02}"] = endpoint(f"a{number:02}", zone="a", state=State.DRAINING)
        fleet.members[f"b{number:02}"] = endpoint(f"b{number:02}", zone="b", weight=0)
    fleet.update()
    # 6 of 22 where a part is 22/3.
    assert fleet.spread()["a"] == pytest.approx(6 / (22 / 3), abs=0.03)


def test_when_all_drain_they_take_the_calls():
    fleet = Fleet(a=3, b=3, c=6)
    for name, member in fleet.members.items():
        fleet.members[name] = endpoint(name, zone=member.zone, state=State.DRAINING)
    fleet.update()
    assert fleet.spread()["c"] == pytest.approx(0.5, abs=0.03)


def test_those_that_drain_are_found_in_a_zone_without_others():
    fleet = Fleet(a=3, b=3)
    fleet.members["d"] = endpoint("d", zone="d", state=State.DRAINING)
    fleet.update()
    fleet.fail("a", 3)
    fleet.fail("b", 3)
    assert {fleet.pick().endpoint.id for _ in range(20)} == {"d"}


def test_a_subset_of_the_zone_stands_for_all_of_it():
    fleet = Fleet(subset=5, a=30, b=20, c=10)
    assert fleet.spread(500)["a"] == 1.0
    fleet.fail("a", 3)
    # 30 servers of which two in five are ready, where a part is 20.
    assert fleet.spread()["a"] == pytest.approx(30 * 1.4 * 0.4 / 20, abs=0.03)


def test_a_key_decides_on_the_zone_as_well():
    fleet = Fleet(RingHash(key="user"), a=5, b=10, c=15)
    users = [f"user-{number}" for number in range(1_000)]
    homes = {user: fleet.pick(user=user) for user in users}
    assert homes == {user: fleet.pick(user=user) for user in users}
    zones = Counter(node.endpoint.zone for node in homes.values())
    assert zones["a"] / 1_000 == pytest.approx(0.5, abs=0.05)
    # Another client of the zone agrees.
    other = Fleet(RingHash(key="user"), seed=2, a=5, b=10, c=15)
    assert [other.pick(user=user).endpoint for user in users] == [
        homes[user].endpoint for user in users
    ]
    assert len({fleet.pick().endpoint.id for _ in range(500)}) > 15  # without a key


@settings(deadline=None)
@given(
    steps=st.lists(
        st.tuples(
            st.dictionaries(
                st.sampled_from([f"{number}" for number in range(9)]),
                st.builds(
                    dict,
                    zone=st.sampled_from("abc"),
                    weight=st.sampled_from([0, 50, 100]),
                    state=st.sampled_from(State),
                ),
            ),
            st.sets(st.integers(0, 8)),
            st.integers(0, 3),
        ),
        max_size=8,
    ),
    policy=st.sampled_from([RoundRobin(), RingHash(key="user")]),
    subset=st.sampled_from([None, 2]),
)
def test_only_nodes_that_may_be_picked_are_picked(steps, policy, subset):
    fleet = Fleet(policy, subset=subset)
    for members, failing, picks in steps:
        fleet.members = {name: endpoint(name, **fields) for name, fields in members.items()}
        fleet.update()
        for place, node in enumerate(fleet.balancer.nodes):
            if place in failing:
                fleet.balancer.set_readiness(node, Readiness.FAILING)
        ready = {
            node
            for place, node in enumerate(fleet.balancer.nodes)
            if place not in failing and node.endpoint.weight
        }
        ready = {node for node in ready if node.endpoint.state is State.SERVING} or ready
        for number in range(picks):
            assert fleet.pick(user=f"{number}") in (ready or {None})
