import random
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshkit.balancer.policies import PowerOfTwo, RoundRobin, policy_named
from meshkit.errors import ConfigError
from tests.balancer.nodes import CALL, endpoint, nodes, picker_of

SEEDS = range(20)
POLICIES = [RoundRobin, PowerOfTwo]
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

    def test_the_same_die_gives_the_same_picks(self):
        ready = nodes(*IDS)
        one, other = (
            picker_of(PowerOfTwo, random.Random(9)),
            picker_of(PowerOfTwo, random.Random(9)),
        )
        assert [one.pick(ready, CALL) for _ in range(50)] == [
            other.pick(ready, CALL) for _ in range(50)
        ]


class TestPolicyNamed:
    @pytest.mark.parametrize(("name", "policy"), [("p2c", PowerOfTwo), ("round_robin", RoundRobin)])
    def test_knows_the_policies(self, name, policy):
        assert isinstance(policy_named(name), policy)

    def test_lists_the_valid_names(self):
        with pytest.raises(ConfigError, match=r"'fastest'; use one of \['adaptive', .*'p2c', "):
            policy_named("fastest")
