import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from meshkit.balancer import Balancer, Readiness
from meshkit.balancer.policies import PowerOfTwo, RoundRobin
from meshkit.endpoint import State
from tests.balancer.nodes import CALL, FakeNode, endpoint, endpoints, new_balancer, picker_of

READY, CONNECTING, FAILING = Readiness.READY, Readiness.CONNECTING, Readiness.FAILING


def balancer_of(*members) -> Balancer[FakeNode]:
    """A balancer whose nodes are all ready."""
    balancer = new_balancer(picker_of(RoundRobin, random.Random(1)))
    balancer.reconcile(endpoints(*members))
    for node in balancer.nodes:
        balancer.set_readiness(node, READY)
    return balancer


def node_of(balancer: Balancer[FakeNode], name: str) -> FakeNode:
    return next(node for node in balancer.nodes if node.endpoint.id == name)


def picked(balancer: Balancer[FakeNode], times: int = 20) -> set[str]:
    """Ids of whom `times` calls go to."""
    return {node.endpoint.id for _ in range(times) if (node := balancer.pick(CALL)) is not None}


def test_nothing_to_pick_before_the_first_set():
    balancer = new_balancer(picker_of(RoundRobin, random.Random(1)))
    assert balancer.pick(CALL) is None
    assert repr(balancer) == "<Balancer 'orders' r0: no endpoints>"


def test_only_ready_nodes_are_picked():
    balancer = new_balancer(picker_of(RoundRobin, random.Random(1)))
    assert balancer.reconcile(endpoints("a", "b", "c")) == []
    assert balancer.pick(CALL) is None
    balancer.set_readiness(node_of(balancer, "a"), READY)
    balancer.set_readiness(node_of(balancer, "b"), FAILING)
    assert picked(balancer) == {"a"}
    balancer.set_readiness(node_of(balancer, "a"), CONNECTING)
    assert balancer.pick(CALL) is None


def test_update_keeps_load_history():
    balancer = balancer_of("a", "b")
    a = node_of(balancer, "a")
    a.start()
    a.finish(0.1, 0.1)
    a.fail()
    a.start()

    changed = endpoint("a", weight=50, zone="z2", metadata={"color": "blue"})
    assert balancer.reconcile(endpoints(changed, "b", "c", revision=2)) == []

    assert node_of(balancer, "a") is a
    assert (a.endpoint, a.pending, a.failed) == (changed, 1, 1)
    assert picked(balancer) == {"a", "b"}  # still ready; "c" is not yet


def test_a_moved_address_is_a_new_node():
    balancer = balancer_of("a", "b")
    old = node_of(balancer, "a")
    assert balancer.reconcile(endpoints(endpoint("a", "elsewhere:1"), "b")) == [old]
    assert node_of(balancer, "a") is not old
    assert old.endpoint.address == "a:50051"
    assert picked(balancer) == {"b"}  # the new one has to connect first


def test_a_restart_on_the_same_address_is_a_new_node():
    balancer = balancer_of(endpoint("a", "host:1"), "b")
    old = node_of(balancer, "a")
    assert balancer.reconcile(endpoints(endpoint("a2", "host:1"), "b")) == [old]
    assert node_of(balancer, "a2").endpoint.address == "host:1"
    assert picked(balancer) == {"b"}


def test_a_late_report_of_a_retired_node_has_no_effect():
    balancer = balancer_of("a", "gone")
    moved, gone = node_of(balancer, "a"), node_of(balancer, "gone")
    balancer.reconcile(endpoints(endpoint("a", "elsewhere:1")))
    balancer.set_readiness(moved, READY)
    balancer.set_readiness(gone, READY)
    assert balancer.pick(CALL) is None
    assert repr(balancer) == "<Balancer 'orders' r1: 1 connecting>"


def test_an_empty_set_retires_all():
    balancer = balancer_of("a", "b")
    before = list(balancer.nodes)
    assert balancer.reconcile(endpoints(revision=9)) == before
    assert balancer.pick(CALL) is None
    assert repr(balancer) == "<Balancer 'orders' r9: no endpoints>"


def test_weight_zero_takes_no_calls():
    balancer = balancer_of(endpoint("a", weight=0), "b")
    assert picked(balancer) == {"b"}
    balancer.reconcile(endpoints(endpoint("a", weight=0)))
    assert balancer.pick(CALL) is None
    assert str(balancer.counts()) == "1 parked"
    balancer.reconcile(endpoints(endpoint("a", weight=1)))
    assert picked(balancer) == {"a"}


def test_draining_nodes_are_the_last_resort():
    draining = endpoint("a", state=State.DRAINING)
    balancer = balancer_of(draining, "b", endpoint("c", state=State.DRAINING, weight=0))
    b = node_of(balancer, "b")
    assert picked(balancer) == {"b"}
    balancer.set_readiness(b, FAILING)
    assert picked(balancer) == {"a"}
    balancer.set_readiness(b, READY)
    assert picked(balancer) == {"b"}


def test_repr_shows_the_state_of_every_node():
    balancer = balancer_of(*"abc", *(endpoint(name, state=State.DRAINING) for name in "de"))
    balancer.reconcile(endpoints(*(n.endpoint for n in balancer.nodes), "f", "g", revision=1041))
    balancer.set_readiness(node_of(balancer, "g"), FAILING)
    assert repr(balancer) == (
        "<Balancer 'orders' r1041: 3 ready, 1 connecting, 1 failing, 2 draining>"
    )


def test_a_node_that_cannot_be_made_changes_nothing():
    def make(endpoint):
        if endpoint.id == "broken":
            raise ValueError(endpoint.address)
        return FakeNode(endpoint)

    balancer = new_balancer(picker_of(RoundRobin, random.Random(1)), make_node=make)
    balancer.reconcile(endpoints("a"))
    (a,) = balancer.nodes
    with pytest.raises(ValueError, match="broken"):
        balancer.reconcile(endpoints(endpoint("a", weight=1), "broken", revision=2))
    assert list(balancer.nodes) == [a]
    assert a.endpoint.weight == 100
    assert repr(balancer) == "<Balancer 'orders' r1: 1 connecting>"


class Insists:
    """A picker that goes by the call alone: it has one answer, however often it is asked."""

    def pick(self, ready, info):
        return ready[0]


class TestPickOther:
    @pytest.mark.parametrize("picker", [Insists(), picker_of(PowerOfTwo, random.Random(3))])
    def test_goes_to_any_other_as_long_as_there_is_one(self, picker):
        balancer = balancer_of(*"abcde")
        balancer.adopt(picker)
        a, b, *others = balancer.nodes
        picks = Counter(balancer.pick_other(CALL, {a, b}) for _ in range(3_000))
        assert set(picks) == set(others)
        assert all(800 < times < 1_200 for times in picks.values())

    def test_goes_to_the_same_when_all_were_tried(self):
        balancer = balancer_of("a", "b")
        a, b = balancer.nodes
        assert {balancer.pick_other(CALL, [a, b]) for _ in range(20)} == {a, b}

    def test_goes_nowhere_when_none_is_ready(self):
        balancer = balancer_of("a")
        (a,) = balancer.nodes
        balancer.set_readiness(a, FAILING)
        assert balancer.pick_other(CALL, [a]) is None

    def test_follows_the_policy_where_it_can(self):
        balancer = balancer_of(*"abc")
        a, b, c = balancer.nodes
        assert [balancer.pick_other(CALL, [b]) for _ in range(6)] in (
            [a, c, a, c, a, c],
            [c, a, c, a, c, a],
        )


ENDPOINTS = st.builds(
    endpoint,
    st.sampled_from("abcd"),
    st.sampled_from(["host:1", "host:2", "host:3", "host:4", "host:5"]),
    weight=st.sampled_from([0, 50, 100]),
    state=st.sampled_from(State),
)


class BalancerMachine(RuleBasedStateMachine):
    """Any order of updates and reports; the model is a plain dict, rebuilt from nothing."""

    def __init__(self) -> None:
        super().__init__()
        picker = picker_of(PowerOfTwo, random.Random(1))
        self.balancer = new_balancer(picker)
        self.want = endpoints()
        self.ready: set[FakeNode] = set()
        self.retired: list[FakeNode] = []

    @rule(members=st.lists(ENDPOINTS, max_size=6, unique_by=lambda e: e.id))
    def update(self, members):
        before = {(n.endpoint.id, n.endpoint.address): n for n in self.balancer.nodes}
        self.want = endpoints(*members)
        gone = self.balancer.reconcile(self.want)
        after = {(n.endpoint.id, n.endpoint.address): n for n in self.balancer.nodes}
        assert all(after[key] is before[key] for key in before.keys() & after.keys())
        assert gone == [node for key, node in before.items() if key not in after]
        self.ready.difference_update(gone)
        self.retired += gone

    @rule(data=st.data(), readiness=st.sampled_from(Readiness))
    def report(self, data, readiness):
        known = [*self.balancer.nodes, *self.retired]
        if known:
            node = data.draw(st.sampled_from(known))
            self.balancer.set_readiness(node, readiness)
            (self.ready.add if readiness is READY else self.ready.discard)(node)
            self.ready.difference_update(self.retired)

    @invariant()
    def nodes_are_what_was_wanted(self):
        assert [node.endpoint for node in self.balancer.nodes] == list(self.want)

    @invariant()
    def picks_only_who_may_be_picked(self):
        may = {n for n in self.ready if n.endpoint.weight > 0}
        may = {n for n in may if n.endpoint.state is State.SERVING} or may
        node = self.balancer.pick(CALL)
        assert node in may if may else node is None

    @invariant()
    def counts_tell_why_nothing_is_picked(self):
        counts = self.balancer.counts()
        assert (self.balancer.pick(CALL) is None) == (counts.ready == counts.draining == 0)
        assert sum(getattr(counts, name) for name in counts.__slots__) == len(self.want)


TestAnyOrderOfEvents = BalancerMachine.TestCase


class Bookkeeper:
    """A follower; its books are right if they say what it would find by looking."""

    def __init__(self) -> None:
        self.weights: dict[FakeNode, int] = {}
        self.told = 0

    def follow(self, added, removed):
        self.told += 1
        for node in removed:
            del self.weights[node]
        for node in added:
            assert node not in self.weights
            self.weights[node] = node.endpoint.weight

    def pick(self, ready, info):
        assert self.weights == {node: node.endpoint.weight for node in ready}
        return ready[0]


class FollowerMachine(RuleBasedStateMachine):
    """Any order of updates, reports, picks and changes of policy."""

    def __init__(self) -> None:
        super().__init__()
        self.balancer = new_balancer(Bookkeeper())

    @rule(members=st.lists(ENDPOINTS, max_size=6, unique_by=lambda e: e.id))
    def update(self, members):
        self.balancer.reconcile(endpoints(*members))

    @rule(data=st.data(), readiness=st.sampled_from([READY, READY, FAILING]))
    def report(self, data, readiness):
        if nodes := self.balancer.nodes:
            self.balancer.set_readiness(data.draw(st.sampled_from(nodes)), readiness)

    @rule()
    def pick(self):
        self.balancer.pick(CALL)

    @rule()
    def adopt(self):
        self.balancer.adopt(Bookkeeper())


TestFollowersKnowWhatTheyWouldFind = FollowerMachine.TestCase


def test_a_follower_is_told_before_a_pick_and_only_of_changes():
    balancer, keeper = balancer_of("a", "b"), Bookkeeper()
    balancer.adopt(keeper)
    picked(balancer)
    assert keeper.told == 1
    a = node_of(balancer, "a")
    balancer.set_readiness(a, FAILING)
    balancer.set_readiness(a, READY)
    balancer.reconcile(endpoints(endpoint("a", weight=7), "b"))
    assert keeper.told == 1
    assert picked(balancer) == {"a"}
    assert (keeper.told, keeper.weights[a]) == (2, 7)


@given(st.lists(ENDPOINTS, max_size=6, unique_by=lambda e: e.id))
def test_reconcile_twice_is_reconcile_once(members):
    balancer = balancer_of(*members)
    before = list(balancer.nodes)
    assert balancer.reconcile(endpoints(*members)) == []
    assert all(a is b for a, b in zip(before, balancer.nodes, strict=True))
