import random
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshkit.balancer.policies import POLICIES as BY_NAME
from meshkit.balancer.policies import (
    Adaptive,
    LeastRequest,
    PeakEwma,
    PickFirst,
    PowerOfTwo,
    Random,
    RoundRobin,
    WeightedRoundRobin,
    policy_named,
)
from meshkit.errors import ConfigError
from tests.balancer.nodes import CALL, FakeNode, endpoint, nodes, picker_of

SEEDS = range(20)
POLICIES = [
    Adaptive,
    LeastRequest,
    PeakEwma,
    PickFirst,
    PowerOfTwo,
    Random,
    RoundRobin,
    WeightedRoundRobin,
]
IDS = "abcdefghij"


class CountingSequence(Sequence):
    """Counts how often it is looked into."""

    def __init__(self, items) -> None:
        self.items = items
        self.reads = 0

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index):
        self.reads += 1
        return self.items[index]


@pytest.mark.parametrize("policy", POLICIES)
def test_one_node_takes_everything(policy):
    (only,) = ready = nodes("a")
    picker = picker_of(policy, random.Random(1))
    assert all(picker.pick(ready, CALL) is only for _ in range(10))


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("count", [10, 10_000])
def test_a_pick_costs_the_same_with_any_number_of_nodes(policy, count):
    picker = picker_of(policy, random.Random(1))
    ready = CountingSequence(nodes(*map(str, range(count))))
    picker.pick(ready, CALL)
    ready.reads = 0
    for _ in range(100):
        picker.pick(ready, CALL)
    assert ready.reads <= 4 * 100


class TestRoundRobin:
    @pytest.mark.parametrize("seed", SEEDS)
    def test_is_exactly_even(self, seed):
        ready = nodes("a", "b", "c")
        picker = picker_of(RoundRobin, random.Random(seed))
        picks = Counter(picker.pick(ready, CALL).endpoint.id for _ in range(3_000))
        assert picks == {"a": 1000, "b": 1000, "c": 1000}

    def test_clients_start_at_different_nodes(self):
        ready = nodes(*IDS)
        rng = random.Random(7)
        starts = Counter(
            picker_of(RoundRobin, rng).pick(ready, CALL).endpoint.id for _ in range(1_000)
        )
        assert set(starts) == set(IDS)
        assert max(starts.values()) < 150

    @given(
        seed=st.integers(),
        sets=st.lists(
            st.tuples(st.sets(st.sampled_from(IDS), min_size=1), st.integers(0, 12)), max_size=30
        ),
    )
    def test_goes_on_behind_the_last_one_when_the_set_changes(self, seed, sets):
        picker = picker_of(RoundRobin, random.Random(seed))
        last = None
        for ids, picks in sets:
            ready = nodes(*sorted(ids))
            for _ in range(picks):
                picked = picker.pick(ready, CALL).endpoint.id
                if last is not None:
                    later = [name for name in sorted(ids) if name > last]
                    assert picked == (later or sorted(ids))[0]
                last = picked

    @given(
        seed=st.integers(),
        flapping=st.lists(st.sets(st.sampled_from("bdfh")), min_size=50, max_size=100),
    )
    def test_who_stays_is_neither_skipped_nor_bunched(self, seed, flapping):
        """The set changes before every call; the share of those who stay is even all the same."""
        staying = set("aceg")
        picker = picker_of(RoundRobin, random.Random(seed))
        picks = [picker.pick(nodes(*sorted(staying | ids)), CALL).endpoint.id for ids in flapping]
        turns = [name for name in picks if name in staying]
        assert all(len(set(turns[i : i + 4])) == 4 for i in range(len(turns) - 3))


class TestPowerOfTwo:
    @pytest.mark.parametrize("seed", SEEDS)
    def test_sequential_calls_are_within_a_tenth_of_even(self, seed):
        ready = nodes("a", "b", "c")
        picker = picker_of(PowerOfTwo, random.Random(seed))
        picks = Counter(picker.pick(ready, CALL).endpoint.id for _ in range(3_000))
        assert all(900 <= picks[name] <= 1_100 for name in "abc"), picks

    def test_every_pair_is_equally_likely(self):
        drawn: Counter[frozenset[str]] = Counter()

        class Seen:
            def __init__(self, name: str) -> None:
                self.name = name
                self.endpoint = endpoint(name)

            @property
            def pending(self) -> int:
                pair.add(self.name)
                return 0

        ready = [Seen(name) for name in "abcd"]
        picker = picker_of(PowerOfTwo, random.Random(3))
        for _ in range(12_000):
            pair: set[str] = set()
            picker.pick(ready, CALL)
            drawn[frozenset(pair)] += 1
        assert len(drawn) == 6
        assert all(len(pair) == 2 and 1_850 < times < 2_150 for pair, times in drawn.items())

    @given(seed=st.integers(), loads=st.lists(st.integers(0, 5), min_size=2, max_size=8))
    def test_the_busiest_is_never_picked(self, seed, loads):
        ready = nodes(*map(str, range(len(loads))))
        for node, pending in zip(ready, loads, strict=True):
            node.pending = pending
        ready[0].pending = 6
        picker = picker_of(PowerOfTwo, random.Random(seed))
        assert all(picker.pick(ready, CALL) is not ready[0] for _ in range(20))

    def test_the_less_busy_of_two_wins_wherever_it_stands(self):
        ready = nodes("a", "b")
        picker = picker_of(PowerOfTwo, random.Random(5))
        for busy, idle in [(0, 1), (1, 0)]:
            ready[busy].pending, ready[idle].pending = 1, 0
            assert all(picker.pick(ready, CALL) is ready[idle] for _ in range(50))


@pytest.mark.parametrize("policy", POLICIES)
@given(
    seed=st.integers(),
    sets=st.lists(
        st.tuples(st.sets(st.sampled_from(IDS), min_size=1), st.integers(1, 5)), max_size=20
    ),
    data=st.data(),
)
def test_only_those_that_are_there_are_picked(policy, seed, sets, data):
    """Whatever the nodes have learnt, and while some come and go."""
    picker = picker_of(policy, random.Random(seed))
    known = {name: FakeNode(endpoint(name, weight=10 * ord(name) - 960)) for name in IDS}
    for ids, picks in sets:
        ready = tuple(known[name] for name in sorted(ids))
        for _ in range(picks):
            node = picker.pick(ready, CALL)
            assert node in ready
            node.start()
            if data.draw(st.booleans()):
                node.finish(data.draw(st.floats(0.0, 10.0)), 0.0)
                if data.draw(st.booleans()):
                    node.fail()


@pytest.mark.parametrize("policy", [p for p in POLICIES if p is not PickFirst])
def test_nobody_starves_while_all_are_alike(policy):
    ready = nodes(*IDS)
    picker = picker_of(policy, random.Random(4))
    picks = Counter()
    for number in range(1_000):
        node = picker.pick(ready, CALL)
        node.start()
        node.finish(0.010, number / 100)
        picks[node.endpoint.id] += 1
    assert set(picks) == set(IDS)
    assert min(picks.values()) > 60


@pytest.mark.parametrize("policy", POLICIES)
def test_the_same_die_gives_the_same_picks(policy):
    ready = nodes(*IDS)
    one, other = (picker_of(policy, random.Random(9)) for _ in range(2))
    assert [one.pick(ready, CALL) for _ in range(50)] == [
        other.pick(ready, CALL) for _ in range(50)
    ]


@pytest.mark.parametrize("policy", [WeightedRoundRobin, Random, Adaptive, PowerOfTwo, LeastRequest])
def test_idle_nodes_are_picked_by_weight(policy):
    ready = tuple(
        FakeNode(endpoint(name, weight=w)) for name, w in zip("abc", [100, 50, 1], strict=True)
    )
    picker = picker_of(policy, random.Random(2))
    picks = Counter(picker.pick(ready, CALL).endpoint.id for _ in range(15_100))
    expected = {"a": 10_000, "b": 5_000, "c": 100}
    assert {name: picks[name] for name in "abc"} == pytest.approx(expected, rel=0.25)


class TestLeastRequest:
    def test_more_choices_find_the_least_busy_more_often(self):
        ready = nodes(*IDS)
        for node in ready[1:]:
            node.pending = 1
        found = [
            sum(picker.pick(ready, CALL) is ready[0] for _ in range(2_000))
            for picker in (
                LeastRequest(choice_count=count).picker(random.Random(1), lambda: 0.0)
                for count in (2, 5, 10)
            )
        ]
        assert found == pytest.approx([2_000 * (1 - 0.9**n) for n in (2, 5, 10)], rel=0.1)

    def test_no_bias_leaves_the_weights(self):
        """All are as busy then, except that who is idle is."""
        ready = nodes("a", "b")
        ready[0].pending, ready[1].pending = 9, 1
        picker = LeastRequest(active_request_bias=0.0).picker(random.Random(1), lambda: 0.0)
        picks = sum(picker.pick(ready, CALL) is ready[0] for _ in range(2_000))
        assert picks == pytest.approx(1_000, rel=0.1)

    @pytest.mark.parametrize("fields", [{"choice_count": 1}, {"active_request_bias": -1.0}])
    def test_impossible_parameters_are_refused(self, fields):
        with pytest.raises(ConfigError, match=r"^(choice_count|active_request_bias): "):
            LeastRequest(**fields)

    def test_more_than_ten_count_as_ten(self):
        assert LeastRequest(choice_count=11).choice_count == 10


class TestPeakEwma:
    @pytest.mark.parametrize("busy", [False, True])
    def test_one_call_at_a_time_until_the_first_has_ended(self, busy):
        new, known = ready = nodes("a", "b")
        known.start()
        known.finish(0.010, 0.0)
        new.pending = int(busy)
        picker = picker_of(PeakEwma, random.Random(1))
        assert {picker.pick(ready, CALL) for _ in range(20)} == {known if busy else new}

    def test_one_that_fails_fast_is_not_fast(self):
        failing, slow = ready = nodes("a", "b")
        for node, took in zip(ready, (0.001, 0.100), strict=True):
            node.start()
            node.finish(took, 0.0)
        failing.fail()
        picker = picker_of(PeakEwma, random.Random(1))
        assert {picker.pick(ready, CALL) for _ in range(20)} == {slow}


class TestPickFirst:
    def test_stays_with_one_while_it_is_there(self):
        known = dict(zip(IDS, nodes(*IDS), strict=True))
        picker = picker_of(PickFirst, random.Random(1))
        for ids, expected in [("bcd", "b"), ("abcd", "b"), ("acd", "a"), ("abd", "a"), ("d", "d")]:
            ready = tuple(known[name] for name in ids)
            assert [picker.pick(ready, CALL).endpoint.id for _ in range(3)] == [expected] * 3

    def test_a_new_node_of_the_same_name_is_another(self):
        picker = picker_of(PickFirst, random.Random(1))
        assert picker.pick(nodes("b", "c"), CALL).endpoint.id == "b"
        assert picker.pick(nodes("a", "b", "c"), CALL).endpoint.id == "a"

    def test_shuffled_each_client_has_its_own(self):
        ready, rng = nodes(*IDS), random.Random(1)
        pickers = (
            PickFirst(shuffle_address_list=True).picker(rng, lambda: 0.0) for _ in range(200)
        )
        assert {picker.pick(ready, CALL).endpoint.id for picker in pickers} == set(IDS)


class TestPolicyNamed:
    @pytest.mark.parametrize(("name", "policy"), BY_NAME.items())
    def test_knows_the_policies(self, name, policy):
        assert isinstance(policy_named(name), policy)

    @pytest.mark.parametrize(
        "name", ["round_robin", "weighted_round_robin", "pick_first", "least_request_experimental"]
    )
    def test_knows_those_of_grpc(self, name):
        assert name in BY_NAME

    def test_lists_the_valid_names(self):
        with pytest.raises(ConfigError, match=r"'fastest'; use one of \['adaptive', .*'p2c', "):
            policy_named("fastest")
