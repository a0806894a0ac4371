"""Ring hash, Maglev, sticky: what goes where, and what moves."""

import random
import time
from collections import Counter
from contextlib import suppress
from itertools import islice
from math import ceil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshkit.balancer import Balancer, Readiness
from meshkit.balancer.policies import (
    Maglev,
    RingHash,
    Sticky,
    hashing,
    maglev,
    policy_named,
    ring_hash,
)
from meshkit.balancer.policies.bounded_load import bounded
from meshkit.balancer.policies.hashing import hash64, numbers_of
from meshkit.errors import ConfigError
from meshkit.fields import from_json, to_json
from tests.balancer.nodes import Call, FakeNode, endpoint, endpoints, new_balancer

POLICIES = [RingHash, Maglev, Sticky]
USERS = [f"user-{number}" for number in range(4_000)]
KEY = "x-user-id"


class Client:
    """A balancer in a world where time passes when it is told to."""

    def __init__(self, policy, *members, seed: int = 1) -> None:
        self.time = 0.0
        picker = policy.picker(random.Random(seed), lambda: self.time)
        self.balancer: Balancer[FakeNode] = new_balancer(picker)
        self.know(*members)

    def know(self, *members) -> None:
        self.balancer.reconcile(endpoints(*members))
        for node in self.balancer.nodes:
            self.balancer.set_readiness(node, Readiness.READY)

    def report(self, name: str, readiness: Readiness) -> None:
        [node] = [node for node in self.balancer.nodes if node.endpoint.id == name]
        self.balancer.set_readiness(node, readiness)

    def pick(self, user: str) -> FakeNode:
        return self.balancer.pick(Call(**{KEY: user} if user else {}))

    def homes(self) -> dict[str, str]:
        """The address that each user's calls go to."""
        return {user: self.pick(user).endpoint.address for user in USERS}

    def settle(self) -> None:
        """Give a table the time that it needs."""
        for _ in range(50):
            self.time += 1.0
            self.pick("anybody")


def moved(before: dict[str, str], after: dict[str, str]) -> dict[str, str]:
    return {user: home for user, home in before.items() if after[user] != home}


# ---- what all of them do


def test_the_hash_is_the_same_everywhere_and_for_ever():
    assert hash64(b"user-1") == 0x88E1EA21865AAC9A
    assert list(numbers_of("10.0.0.1:50051", 2)) == [0x2A93AFFCAEBA8B0, 0xC3A4CE4ADC65A33E]
    assert numbers_of("a", 100)[:7] == numbers_of("a", 7)


@pytest.mark.parametrize("policy", POLICIES)
def test_clients_agree_whatever_they_have_seen_before(policy):
    one = Client(policy(key=KEY), *"abcdefgh")
    other = Client(policy(key=KEY), *"xyaz", seed=2)
    other.know(*"ch")
    other.know(*"abcdefgh")
    one.settle()
    other.settle()
    assert one.homes() == other.homes()


@pytest.mark.parametrize("policy", POLICIES)
def test_a_call_without_a_key_goes_anywhere(policy):
    client = Client(policy(key=KEY), *"abcd")
    picks = Counter(client.pick("").endpoint.id for _ in range(2_000))
    assert set(picks) == set("abcd")
    assert min(picks.values()) > 200


@pytest.mark.parametrize("policy", POLICIES)
def test_a_new_address_under_the_same_hash_key_takes_over(policy):
    names = {"hash_key": "orders-0"}
    client = Client(policy(key=KEY), endpoint("a", "10.0.0.1:1", metadata=names), "b", "c")
    client.settle()
    before = client.homes()
    client.know(endpoint("z", "10.0.0.9:1", metadata=names), "b", "c")
    client.settle()
    as_before = {"10.0.0.9:1": "10.0.0.1:1"}
    after = {user: as_before.get(home, home) for user, home in client.homes().items()}
    if policy is not Sticky:  # it has its own memory: those of the old one have moved on
        assert after == before
    fresh = Client(policy(key=KEY), endpoint("z", "10.0.0.9:1", metadata=names), "b", "c")
    fresh.settle()
    assert {u: as_before.get(h, h) for u, h in fresh.homes().items()} == before


@pytest.mark.parametrize("policy", POLICIES)
@settings(deadline=None)
@given(
    steps=st.lists(
        st.tuples(
            st.sets(st.sampled_from("abcdef"), min_size=1),
            st.sampled_from([0.0, 0.001, 1.0, 100.0]),
            st.integers(1, 30),
        ),
        max_size=12,
    )
)
def test_only_nodes_that_are_there_are_picked(policy, steps):
    client = Client(policy(key=KEY, **{"table_size": 251} if policy is Maglev else {}), "a")
    for ids, seconds, picks in steps:
        client.know(*sorted(ids))
        for user in USERS[:picks]:
            client.time += seconds
            assert client.pick(user) in set(client.balancer.nodes)


@pytest.mark.parametrize(
    ("metadata", "key"),
    [
        ([("x-user-id", "ada")], b"ada"),
        ([("other", "x"), ("x-user-id", "ada"), ("x-user-id", b"eve")], b"ada,eve"),
        ([("x-user-id", "")], b""),
        ([], b""),
    ],
)
def test_the_key_is_the_header(metadata, key):
    call = Call()
    call.metadata = metadata
    assert hashing.key_reader(KEY)(call) == key


@pytest.mark.parametrize(("found", "key"), [("ä", "ä".encode()), (b"x", b"x"), (None, b"")])
def test_the_key_may_be_a_function_of_the_call(found, key):
    assert (
        hashing.key_reader(lambda info: found if info.path == "/Orders/Get" else 0)(Call()) == key
    )


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("key", ["X-User", "x-user-bin", "x user", 7])
def test_what_is_no_header_is_refused(policy, key):
    with pytest.raises(ConfigError, match="key: must be the name of a header in small letters"):
        policy(key=key)


def test_in_json_the_key_is_called_as_in_grpc():
    policy = RingHash(key=KEY, min_ring_size=512, hash_balance_factor=150)
    json = {"requestHashHeader": KEY, "minRingSize": 512, "hashBalanceFactor": 150}
    assert to_json(policy) == json
    assert from_json(RingHash, json) == policy


@pytest.mark.parametrize(
    ("name", "policy"),
    [
        ("ring_hash", RingHash),
        ("ring_hash_experimental", RingHash),
        ("maglev", Maglev),
        ("sticky", Sticky),
    ],
)
def test_policies_have_names(name, policy):
    assert policy_named(name) == policy()


@pytest.mark.parametrize("policy", POLICIES)
def test_a_new_node_takes_its_keys_at_once(policy):
    """Slow start would send some of them to anybody; so it does where the policy takes anybody."""
    client = Client(policy(key=KEY), *"ab")
    client.pick("anybody")
    client.know(*"abc")
    client.settle()
    assert moved(client.homes(), client.homes()) == {}


# ---- the ring


class TestRingHash:
    def test_keys_move_only_from_who_left_and_come_back(self):
        client = Client(RingHash(key=KEY), *"abcdefgh")
        before = client.homes()
        client.report("c", Readiness.FAILING)
        away = moved(before, client.homes())
        assert set(away.values()) == {"c:50051"}
        assert len(away) == Counter(before.values())["c:50051"]
        # They are shared by all others.
        assert len({client.pick(user) for user in away}) == 7
        client.report("c", Readiness.READY)
        assert client.homes() == before

    @pytest.mark.parametrize("seed", range(5))
    def test_is_as_even_as_its_points(self, seed):
        client = Client(RingHash(key=KEY), *(f"{seed}-{number}" for number in range(20)))
        shares = Counter(client.homes().values())
        assert max(shares.values()) < 1.45 * 200
        assert min(shares.values()) > 0.55 * 200

    def test_shares_go_by_weight(self):
        heavy = [endpoint(name, weight=300) for name in "abc"]
        client = Client(RingHash(key=KEY), *heavy, *"defghi")
        shares = Counter(client.homes().values())
        thrice = sum(shares[f"{name}:50051"] for name in "abc") / 3
        once = sum(shares[f"{name}:50051"] for name in "defghi") / 6
        assert 2.4 < thrice / once < 3.6

    def test_another_weight_moves_keys_to_or_from_that_one_only(self):
        client = Client(RingHash(key=KEY), *"abcdefghijkl")
        before = client.homes()
        client.know(endpoint("a", weight=50), *"bcdefghijkl")
        assert set(moved(before, client.homes()).values()) == {"a:50051"}
        client.know(*"abcdefghijkl")
        assert client.homes() == before

    @settings(deadline=None)
    @given(
        histories=st.lists(
            st.lists(
                st.builds(
                    endpoint,
                    st.sampled_from("abcdef"),
                    weight=st.sampled_from([1, 50, 100, 3_000]),
                    metadata=st.sampled_from([{}, {"hash_key": "same"}]),
                ),
                min_size=1,
                unique_by=lambda e: e.id,
            ),
            min_size=1,
            max_size=6,
        )
    )
    def test_what_came_before_does_not_matter(self, histories):
        policy = RingHash(key=KEY, min_ring_size=64, max_ring_size=1_000)
        one, other = Client(policy), Client(policy, *histories[-1])
        for members in histories:
            one.know(*members)
            one.pick("anybody")
        users = USERS[:100]
        assert [one.pick(u).endpoint for u in users] == [other.pick(u).endpoint for u in users]

    @pytest.mark.parametrize(
        ("weights", "points"),
        [
            ([100] * 20, 2_000),  # as many as the weights say
            ([100] * 10, 2_000),  # 1,000 are too few
            ([1] * 3, 3 * 512),
            ([100] * 80, 4_000),  # 8,000 are too many
            ([1] * 5_000, 5_000),  # one each, whatever the limit
        ],
    )
    def test_the_ring_is_large_enough_and_not_too_large(self, weights, points):
        ring = ring_hash.Ring(1_024, 4_096)
        ring.follow([FakeNode(endpoint(f"{i}", weight=w)) for i, w in enumerate(weights)], ())
        assert len(ring) == points

    def test_a_change_touches_nobody_else(self, monkeypatch):
        touched = []
        numbers = ring_hash.numbers_of
        monkeypatch.setattr(
            ring_hash, "numbers_of", lambda key, count: touched.append(key) or numbers(key, count)
        )
        names = [f"{number:04}" for number in range(500)]
        client = Client(RingHash(key=KEY), *names)
        client.pick("anybody")
        touched.clear()
        client.report("0042", Readiness.FAILING)
        client.pick("anybody")
        client.know(*(name for name in names if name != "0017"))
        client.pick("anybody")
        assert sorted(touched) == ["0017:50051", "0042:50051", "0042:50051"]

    def test_grows_and_shrinks_by_its_points(self):
        """Otherwise a chunk is long to put into, or there are many empty ones to walk through."""
        nodes = [FakeNode(endpoint(f"{number}")) for number in range(200)]
        ring = ring_hash.Ring(1, 262_144)
        lengths = []
        for added, removed in [((node,), ()) for node in nodes] + [((), (n,)) for n in nodes[3:]]:
            ring.follow(added, removed)
            lengths.append(len(ring) / len(ring._points))
        assert max(lengths) <= 256
        assert min(lengths) >= 8
        fresh = ring_hash.Ring(1, 262_144)
        fresh.follow(nodes[:3], ())
        places = [hash64(user.encode()) for user in USERS]
        assert [*map(ring.owner, places)] == [*map(fresh.owner, places)]

    def test_the_largest_ring_is_not_below_the_smallest(self):
        with pytest.raises(ConfigError, match="must not be above max_ring_size, got 2048 and 1024"):
            RingHash(key=KEY, min_ring_size=2048, max_ring_size=1024)

    def test_walks_round_and_round(self):
        ring = ring_hash.Ring(8, 4_096)
        nodes = [FakeNode(endpoint(name, weight=4)) for name in "abc"]
        ring.follow(nodes, ())
        for place in (0, 1 << 63, (1 << 64) - 1):
            round_ = list(islice(ring.walk(place), 12))
            assert round_[0] is ring.owner(place)
            assert Counter(round_) == dict.fromkeys(nodes, 4)
            assert list(islice(ring.walk(place), 24)) == 2 * round_


# ---- bounded load


@pytest.mark.parametrize("policy", [RingHash, Maglev])
class TestBoundedLoad:
    @pytest.mark.parametrize("factor", [100, 125, 200])
    def test_nobody_has_more_than_its_share_of_a_single_key(self, policy, factor):
        members = [endpoint("a", weight=200), *(endpoint(name, weight=50) for name in "bc"), *"de"]
        for user in USERS[:10]:
            client = Client(policy(key=KEY, hash_balance_factor=factor), *members)
            for total in range(1, 100):
                node = client.pick(user)
                node.start()
                assert node.pending <= -(-factor * total * node.endpoint.weight // 50_000)

    def test_without_load_a_key_stays_where_it_is(self, policy):
        bounded = Client(policy(key=KEY, hash_balance_factor=125), *"abcdefgh")
        unbounded = Client(policy(key=KEY), *"abcdefgh")
        assert bounded.homes() == unbounded.homes()

    def test_a_burst_is_forgotten(self, policy):
        client = Client(policy(key=KEY, hash_balance_factor=125), *"abcdefgh")
        burst = []
        for user in USERS[:800]:
            burst.append(client.pick(user))
            burst[-1].start()
        for node in burst:
            node.finish(0.1, 0.1)
        for _ in range(20):
            client.pick("anybody")
        for _ in range(16):
            client.pick("hot").start()
        assert max(node.pending for node in client.balancer.nodes) <= ceil(1.25 * 16 / 8)

    def test_who_has_gone_does_not_count(self, policy):
        client = Client(policy(key=KEY, hash_balance_factor=100), *"abcd")
        for user in USERS[:400]:
            client.pick(user).start()
        client.know("e", "f")
        for _ in range(10):
            client.pick("hot").start()
        assert {node.pending for node in client.balancer.nodes} == {5}

    @settings(deadline=None)
    @given(
        steps=st.lists(
            st.one_of(
                st.tuples(st.sampled_from(["call", "pick only"]), st.sampled_from(USERS[:40])),
                st.tuples(st.just("end"), st.integers(0, 50)),
                st.tuples(st.just("know"), st.sets(st.sampled_from("abcdef"), min_size=1)),
            ),
            max_size=80,
        )
    )
    def test_the_total_is_never_too_small_and_soon_right(self, policy, steps):
        client = Client(policy(key=KEY, hash_balance_factor=125), *"abcd")
        table = client.balancer.group()._picker._table
        running = []
        for what, how in steps:
            if what == "know":
                client.know(*sorted(how))
            elif what != "end":
                node = client.pick(how)
                if what == "call":
                    node.start()
                    running.append(node)
            elif running:
                running.pop(how % len(running)).finish(0.1, 0.1)
            assert table._total >= sum(node.pending for node in client.balancer.nodes)
        for _ in range(10):  # each looks at two of six
            client.pick("anybody")
        pending = sum(node.pending for node in client.balancer.nodes)
        assert pending < table._total <= pending + 3

    def test_a_pick_takes_no_longer_when_many_are_busy(self, policy):
        def busy_picker(size: int):
            nodes = [FakeNode(endpoint(f"{number}")) for number in range(size)]
            picker = policy(key=KEY, hash_balance_factor=125).picker(random.Random(1), lambda: 0.0)
            picker.follow(nodes, ())
            for number in range(3 * size):
                picker.pick((), Call(**{KEY: f"{number}"})).start()
            return picker

        def cost(picker) -> float:
            began = time.process_time()
            for user in USERS[:500]:
                picker.pick((), Call(**{KEY: user})).start()
            return time.process_time() - began

        few, many = busy_picker(10), busy_picker(4_000)
        costs = [(cost(many), cost(few)) for _ in range(7)]
        assert min(many for many, _ in costs) < 4 * min(few for _, few in costs)

    def test_the_mean_is_the_least_bound(self, policy):
        with pytest.raises(ConfigError, match="hash_balance_factor: must be an integer of 100"):
            policy(key=KEY, hash_balance_factor=99)


def test_a_burst_is_forgotten_though_each_further_call_goes_elsewhere():
    """So a pick looks at more nodes than it adds."""
    nodes = [FakeNode(endpoint(f"{number}")) for number in range(2_000)]

    class OneEach:
        weight = 100 * len(nodes)
        owner = nodes.__getitem__

    table = bounded(OneEach, 125)
    for place in range(500):
        table.owner(place).start()
    for node in nodes[:500]:
        node.finish(0.1, 0.1)
    for place in range(500, 2_000):
        node = table.owner(place)
        node.start()
        node.finish(0.1, 0.1)
    assert table._total == 1


# ---- Maglev


class TestMaglev:
    def test_shares_are_equal(self):
        client = Client(Maglev(key=KEY, table_size=1_009), *"abcde")
        client.settle()
        table = client.balancer.group()._picker._table
        slots = Counter(node.endpoint.id for node in islice(table.walk(0), 1_009))
        assert sorted(slots.values()) == [201, 202, 202, 202, 202]

    def test_shares_go_by_weight(self):
        client = Client(Maglev(key=KEY, table_size=1_009), endpoint("a", weight=300), *"bc")
        client.settle()
        table = client.balancer.group()._picker._table
        slots = Counter(node.endpoint.id for node in islice(table.walk(0), 1_009))
        assert slots["a"] in range(603, 608)
        assert abs(slots["b"] - slots["c"]) <= 1

    def test_few_keys_of_those_who_stay_move(self):
        client = Client(Maglev(key=KEY), *"abcdefgh")
        client.settle()
        before = client.homes()
        client.report("c", Readiness.FAILING)
        client.settle()
        away = moved(before, client.homes())
        own = Counter(away.values())["c:50051"]
        assert own == Counter(before.values())["c:50051"]
        assert len(away) - own < 0.05 * len(USERS)

    def test_the_old_table_holds_until_the_new_one_is_made(self):
        client = Client(Maglev(key=KEY), *"abcdefgh")
        client.settle()
        before = client.homes()
        client.know(*"abdefghz")
        meanwhile = client.homes()  # no time passes
        assert set(moved(before, meanwhile).values()) == {"c:50051"}
        assert "z:50051" not in meanwhile.values()
        for _ in range(1_500):
            client.time += 0.001
            client.pick("anybody")
        after = client.homes()
        assert Counter(after.values())["z:50051"] > 300
        other = Client(Maglev(key=KEY), *"abdefghz")
        other.settle()
        assert after == other.homes()

    def test_changes_without_end_do_not_keep_it_from_being_made(self):
        client = Client(Maglev(key=KEY, table_size=1_009), *"abcd")
        for number in range(300):
            client.know(*"abcd", f"new-{number % 7}")
            client.time += 0.001
            client.pick("anybody")
        client.know(*"abcd", "last")
        shares = Counter(client.homes().values())
        assert all(shares[f"{name}:50051"] > 500 for name in "abcd")

    def test_a_change_meanwhile_is_made_up_for(self):
        client = Client(Maglev(key=KEY), *"abcdefgh")
        client.settle()
        client.know(*"abdefgh")
        client.pick("anybody")
        client.time += 0.01
        client.know(*"abdefghz")
        client.settle()
        other = Client(Maglev(key=KEY), *"abdefghz")
        other.settle()
        assert client.homes() == other.homes()

    def test_goes_on_when_all_of_the_table_have_left(self):
        client = Client(Maglev(key=KEY), *"abcd")
        client.settle()
        client.know(*"wxyz")
        shares = Counter(client.homes().values())
        assert set(shares) == {"w:50051", "x:50051", "y:50051", "z:50051"}
        assert min(shares.values()) > 800
        assert client.balancer.group()._picker._table._slots == []  # nobody looks through all of it

    def test_no_pick_does_more_than_its_piece_of_the_work(self):
        nodes = [FakeNode(endpoint(name)) for name in "abcdefghi"]
        rows = [maglev._Row(f"{i}", f"{i}", 1 + i % 3, node) for i, node in enumerate(nodes)]
        work, pieces = maglev.fill(1_009, rows), 0
        next(work)
        with suppress(StopIteration):
            while True:
                work.send(100)
                pieces += 1
        # At least a step for each slot; at most n log n, and some turns of the lighter ones.
        assert (1_009 + 9 * maglev._ROW) / 100 < pieces < 12 * 1_009 / 100

    @pytest.mark.parametrize("size", [4, 65_536])
    def test_the_size_is_a_prime_number(self, size):
        with pytest.raises(ConfigError, match=f"must be a prime number, got {size}; 65537 is one"):
            Maglev(key=KEY, table_size=size)


# ---- sticky


class TestSticky:
    def test_new_endpoints_take_no_keys_from_others(self):
        client = Client(Sticky(key=KEY), *"abc")
        before = client.homes()
        client.know(*"abcdefgh")
        assert client.homes() == before
        newcomers = {client.pick(f"new {user}").endpoint.id for user in USERS}
        assert newcomers == set("abcdefgh")

    def test_a_key_stays_where_it_went_when_its_node_was_away(self):
        client = Client(Sticky(key=KEY), *"abcd")
        before = client.homes()
        client.report("b", Readiness.FAILING)
        meanwhile = client.homes()
        assert set(moved(before, meanwhile).values()) == {"b:50051"}
        client.report("b", Readiness.READY)
        assert client.homes() == meanwhile

    def test_a_key_without_a_call_meanwhile_is_still_at_home(self):
        client = Client(Sticky(key=KEY), *"abcd")
        before = client.homes()
        client.know(*"abcdxyz")
        client.report("b", Readiness.FAILING)
        client.pick("anybody")
        client.report("b", Readiness.READY)
        assert client.homes() == before

    def test_forgets_the_keys_used_longest_ago(self):
        client = Client(Sticky(key=KEY, max_keys=3), *"ab")
        on_a = [user for user in USERS[:40] if client.pick(user).endpoint.id == "a"][:4]
        client.know("b")
        for user in on_a[:3]:
            client.pick(user)
        client.pick(on_a[0])
        client.know("a", "b")
        client.pick("one more")  # on_a[1] is forgotten
        homes = {user: client.pick(user).endpoint.id for user in (on_a[0], on_a[2])}
        assert homes == {on_a[0]: "b", on_a[2]: "b"}
        assert client.pick(on_a[1]).endpoint.id == "a"
