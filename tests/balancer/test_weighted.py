import random
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshkit.balancer import RoundRobin, WeightedRoundRobin
from meshkit.balancer.policies.weighted import Draw, Rotation
from meshkit.orca import LoadReport
from tests.balancer.nodes import CALL, FakeNode, endpoint, nodes

WEIGHTS = st.lists(st.integers(1, 100), min_size=1, max_size=20)


def weighted(*weights: int) -> tuple[FakeNode, ...]:
    return tuple(FakeNode(endpoint(f"{i:03}", weight=w)) for i, w in enumerate(weights))


def turns(rotation: Rotation, ready: tuple[FakeNode, ...], count: int) -> list[int]:
    return [int(rotation.turn(ready).endpoint.id) for _ in range(count)]


class TestRotation:
    @given(seed=st.integers(), weights=WEIGHTS)
    def test_each_takes_its_share_to_a_turn(self, seed, weights):
        """Over as many rounds as the greatest weight: each has as many turns as it weighs."""
        rotation, ready = Rotation(random.Random(seed)), weighted(*weights)
        picked = Counter(turns(rotation, ready, sum(weights)))
        assert all(abs(picked[i] - weight) <= 2 for i, weight in enumerate(weights))

    @given(seed=st.integers(), weight=st.integers(1, 1000), count=st.integers(1, 20))
    def test_equal_weights_are_a_plain_rotation(self, seed, weight, count):
        rotation, ready = Rotation(random.Random(seed)), weighted(*[weight] * count)
        picks = turns(rotation, ready, 3 * count)
        assert picks == [(picks[0] + i) % count for i in range(3 * count)]

    @given(seed=st.integers())
    def test_turns_are_spread_evenly_over_time(self, seed):
        rotation, ready = Rotation(random.Random(seed)), weighted(100, 50, 100)
        picks = turns(rotation, ready, 300)
        places = [i for i, pick in enumerate(picks) if pick == 1]
        assert {b - a for a, b in pairwise(places)} <= {4, 5, 6}

    @given(seed=st.integers(), weight=st.integers(1, 400))
    def test_a_new_weight_counts_from_the_next_round_on(self, seed, weight):
        rotation, ready = Rotation(random.Random(seed)), weighted(100, 100, 100)
        turns(rotation, ready, 50)
        ready = (FakeNode(endpoint("000", weight=weight)), *ready[1:])
        turns(rotation, ready, 3 * 8)
        picked = Counter(turns(rotation, ready, 10 * (weight + 200)))
        assert picked[0] / picked[1] == pytest.approx(weight / 100, rel=0.1, abs=0.02)

    def test_the_heaviest_may_leave(self):
        """Then the others go by their own weights, without being passed over for ever."""
        rotation, ready = Rotation(random.Random(1)), weighted(30, 10, 20)
        turns(rotation, ready, 20)
        turns(rotation, ready[1:], 20)
        assert rotation.greatest == 20

    def test_shares_hold_while_the_set_changes_all_the_time(self):
        rotation, dice = Rotation(random.Random(1)), random.Random(2)
        ready = weighted(*[100, 50] * 10)
        picked = Counter()
        for _ in range(20_000):
            there = tuple(node for node in ready if dice.random() < 0.9)
            picked[rotation.turn(there).endpoint.weight] += 1
        assert picked[100] / picked[50] == pytest.approx(2.0, rel=0.1)

    def test_no_turn_looks_at_more_than_32_nodes(self):
        ready = weighted(1_000_000, *[1] * 999)
        rotation, looks = (
            Rotation(random.Random(1), lambda node: looks.append(1) or node.endpoint.weight),
            [],
        )
        rotation.turn(ready)
        for _ in range(100):
            looks.clear()
            rotation.turn(ready)
            assert len(looks) <= 32


class TestDraw:
    @given(seed=st.integers(), weights=WEIGHTS)
    def test_shares_follow_the_weights(self, seed, weights):
        draw, ready = Draw(random.Random(seed)), weighted(*weights)
        picked = Counter(draw.place(ready) for _ in range(2_000))
        for i, weight in enumerate(weights):
            share = weight / sum(weights)
            assert picked[i] / 2_000 == pytest.approx(share, abs=6 * (share / 2_000) ** 0.5 + 0.002)

    def test_the_heaviest_may_leave_or_come(self):
        draw, ready = Draw(random.Random(1)), weighted(1, 1, 30)
        draw.place(ready)
        for _ in range(100):
            draw.place(ready[:2])
        assert draw.greatest == 1
        picked = Counter(draw.place(ready) for _ in range(3_200))
        assert picked[2] == pytest.approx(3_000, rel=0.02)


class World:
    """Servers that report, and the picker of a client, at one time."""

    def __init__(self, *weights: int, **fields: float) -> None:
        self.now = 0.0
        self.nodes = weighted(*weights)
        self.picker = WeightedRoundRobin(**fields).picker(random.Random(1), lambda: self.now)

    def tell(self, number: int, rps: float, utilization: float, eps: float = 0.0) -> None:
        said = LoadReport(rps=rps, eps=eps, application_utilization=utilization)
        self.nodes[number].tell(said, self.now)

    def shares(self) -> list[float]:
        """Of each node, once the last reports are known."""
        for _ in range(2 * len(self.nodes)):
            self.picker.pick(self.nodes, CALL)
        picked = Counter(self.picker.pick(self.nodes, CALL).endpoint.id for _ in range(4_000))
        return [picked[node.endpoint.id] / 4_000 for node in self.nodes]


class TestWeightedRoundRobin:
    """Clause by clause of gRFC A58."""

    def reporting(self) -> World:
        """Past the blackout; the first can do three times as much as the second."""
        world = World(100, 100)
        for world.now in (0.0, 10.0):
            world.tell(0, rps=30.0, utilization=0.1)
            world.tell(1, rps=10.0, utilization=0.1)
        return world

    def test_calls_go_by_rate_over_utilization(self):
        assert self.reporting().shares() == pytest.approx([0.75, 0.25], abs=0.01)

    def test_a_report_counts_only_after_the_blackout(self):
        world = self.reporting()
        world.now = 9.9
        assert world.shares() == pytest.approx([0.5, 0.5], abs=0.01)

    def test_reports_expire_and_a_new_one_begins_a_blackout(self):
        world = self.reporting()
        world.now = 190.0
        assert world.shares() == pytest.approx([0.5, 0.5], abs=0.01)
        world.tell(0, rps=30.0, utilization=0.1)
        world.tell(1, rps=10.0, utilization=0.1)
        assert world.shares() == pytest.approx([0.5, 0.5], abs=0.01)
        world.now = 200.0
        assert world.shares() == pytest.approx([0.75, 0.25], abs=0.01)

    def test_failing_servers_look_busier(self):
        world = self.reporting()
        world.tell(0, rps=30.0, utilization=0.1, eps=15.0)  # 0.1 + 1.0 * 15 / 30
        assert world.shares() == pytest.approx([1 / 3, 2 / 3], abs=0.01)

    def test_the_penalty_can_be_changed(self):
        world = World(100, 100, error_utilization_penalty=0.0, blackout_period=0.0)
        world.tell(0, rps=30.0, utilization=0.1, eps=15.0)
        world.tell(1, rps=10.0, utilization=0.1)
        assert world.shares() == pytest.approx([0.75, 0.25], abs=0.01)

    def test_who_says_nothing_counts_as_the_mean(self):
        world = World(100, 1, 100, blackout_period=0.0)
        world.tell(0, rps=30.0, utilization=0.1)
        world.tell(2, rps=10.0, utilization=0.1)
        assert world.shares() == pytest.approx([3 / 6, 2 / 6, 1 / 6], abs=0.01)

    def test_fewer_than_two_reports_leave_the_registry_weights(self):
        world = World(100, 50, blackout_period=0.0)
        world.tell(0, rps=30.0, utilization=0.1)
        assert world.shares() == pytest.approx([2 / 3, 1 / 3], abs=0.01)

    def test_the_cpu_stands_in_for_the_application(self):
        world = World(100, 100, blackout_period=0.0)
        world.nodes[0].tell(LoadReport(rps=30.0, cpu_utilization=0.1), 0.0)
        world.tell(1, rps=10.0, utilization=0.1)
        assert world.shares() == pytest.approx([0.75, 0.25], abs=0.01)

    @pytest.mark.parametrize(
        "said", [{"rps": 0.0, "utilization": 0.5}, {"rps": 5.0, "utilization": 0.0}]
    )
    def test_reports_that_say_nothing_are_none(self, said):
        world = self.reporting()
        world.tell(0, **said)
        assert world.shares() == pytest.approx([0.75, 0.25], abs=0.01)

    def test_equal_weights_are_round_robin(self):
        ready = nodes(*"abcdefg")
        one, other = (
            policy.picker(random.Random(5), lambda: 0.0)
            for policy in (WeightedRoundRobin(), RoundRobin())
        )
        assert [one.pick(ready, CALL) for _ in range(50)] == [
            other.pick(ready, CALL) for _ in range(50)
        ]
