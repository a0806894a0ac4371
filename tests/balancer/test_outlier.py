import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from meshkit.balancer import (
    Ejected,
    FailurePercentageEjection,
    OutlierDetection,
    PowerOfTwo,
    Readiness,
    Readmitted,
    RoundRobin,
    SuccessRateEjection,
)
from meshkit.errors import ConfigError
from tests.balancer.nodes import CALL, endpoint
from tests.balancer.world import World

ROW_ONLY = OutlierDetection(failure_percentage_ejection=None)
A50 = SuccessRateEjection()


class TestFailuresInARow:
    def test_eject_one_of_three(self):
        world = World("a", "b", "c")
        world.fail("a", 4)
        assert set(world.picks()) == {"a", "b", "c"}
        world.fail("a", 1)
        assert set(world.picks()) == {"b", "c"}
        [event] = world.events
        assert isinstance(event, Ejected)
        assert event.node is world["a"]
        assert event.reason == "5 failures in a row, the last UNAVAILABLE"
        assert str(world.balancer.counts()) == "2 ready, 1 ejected"

    def test_a_success_between_starts_the_row_again(self):
        world = World("a", "b", "c", detection=ROW_ONLY)
        for _ in range(10):
            world.fail("a", 4)
            world.serve("a", 1)
        assert world.events == []

    @pytest.mark.parametrize(
        "code", ["UNAVAILABLE", "INTERNAL", "UNKNOWN", "DATA_LOSS", "DEADLINE_EXCEEDED"]
    )
    def test_are_those_of_the_server(self, code):
        world = World("a", "b", "c")
        world.fail("a", 5, code)
        assert world.ejected == ["a"]

    @pytest.mark.parametrize("code", ["NOT_FOUND", "INVALID_ARGUMENT", "UNIMPLEMENTED", "ABORTED"])
    def test_an_answer_of_the_application_is_none_and_ends_the_row(self, code):
        world = World("a", "b", "c", detection=ROW_ONLY)
        for _ in range(10):
            world.fail("a", 4)
            world.fail("a", 1, code)
        assert world.events == []

    @pytest.mark.parametrize("code", ["CANCELLED", "RESOURCE_EXHAUSTED"])
    def test_what_says_nothing_neither_counts_nor_ends_the_row(self, code):
        world = World("a", "b", "c")
        world.fail("a", 50, code)
        world.fail("a", 4)
        world.fail("a", 50, code)
        assert world.events == []
        world.fail("a", 1)
        assert world.ejected == ["a"]

    def test_the_codes_are_an_option(self):
        world = World(*"abc", detection=OutlierDetection(failure_codes=frozenset({"NOT_FOUND"})))
        world.fail("a", 50, "UNAVAILABLE")
        assert world.ejected == []
        world.fail("a", 5, "NOT_FOUND")
        assert world.ejected == ["a"]

    def test_can_be_off(self):
        detection = OutlierDetection(consecutive_failures=0, failure_percentage_ejection=None)
        world = World("a", "b", "c", detection=detection)
        world.fail("a", 1000)
        assert world.events == []


class TestShareOfFailures:
    def spread(self, world: World, name: str, *, failed: int, of: int) -> None:
        """Failures among successes, so that few are in a row; then the interval is over."""
        if not world.balancer._outliers._finished:
            world.fail("c", 1)  # the first interval begins
        for number in range(of):
            fails = number * failed // of != (number + 1) * failed // of
            world.end(world[name], "INTERNAL" if fails else "OK")
        world.sleep(10.0)

    def judge(self, world: World) -> None:
        world.fail("c", 1)  # something has to fail for anybody to be looked at

    def test_more_than_half_of_ten_calls_ejects_one_of_three(self):
        world = World("a", "b", "c")
        self.spread(world, "a", failed=7, of=12)
        self.judge(world)
        assert world.ejected == ["a"]
        assert world.events[0].reason == "7 of its 12 calls failed"

    def test_half_is_not_too_many(self):
        world = World("a", "b", "c")
        self.spread(world, "a", failed=6, of=12)
        self.judge(world)
        assert world.ejected == []

    def test_few_calls_prove_nothing(self):
        world = World("a", "b", "c")
        self.spread(world, "a", failed=6, of=9)
        self.judge(world)
        assert world.ejected == []

    def test_calls_that_say_nothing_are_not_successes(self):
        world = World("a", "b", "c", detection=OutlierDetection(consecutive_failures=0))
        self.spread(world, "a", failed=7, of=12)
        world.now -= 10.0
        world.fail("a", 1000, "CANCELLED")
        world.sleep(10.0)
        self.judge(world)
        assert world.ejected == ["a"]

    def test_each_interval_is_judged_by_itself(self):
        world = World("a", "b", "c")
        self.spread(world, "a", failed=5, of=12)
        self.judge(world)
        self.spread(world, "a", failed=5, of=9)
        self.judge(world)
        assert world.ejected == []

    def test_what_was_before_the_first_failure_does_not_count(self):
        world = World("a", "b", "c")
        world.serve("a", 100)
        self.spread(world, "a", failed=8, of=12)
        self.judge(world)
        assert world.ejected == ["a"]

    def test_a_chance_of_nothing_ejects_nobody(self):
        rule = FailurePercentageEjection(enforcement_percentage=0)
        world = World("a", "b", "c", detection=OutlierDetection(failure_percentage_ejection=rule))
        self.spread(world, "a", failed=7, of=12)
        self.judge(world)
        assert world.ejected == []

    def test_too_few_nodes_with_enough_calls(self):
        rule = FailurePercentageEjection(minimum_hosts=2)
        world = World("a", "b", "c", detection=OutlierDetection(failure_percentage_ejection=rule))
        self.spread(world, "a", failed=7, of=12)
        self.judge(world)
        assert world.ejected == []
        world.serve("b", 10)
        self.spread(world, "a", failed=7, of=12)
        self.judge(world)
        assert world.ejected == ["a"]


class TestSuccessRate:
    """gRFC A50: the mean less 1.9 standard deviations, from five nodes and 100 calls on."""

    DETECTION = OutlierDetection(
        consecutive_failures=0, failure_percentage_ejection=None, success_rate_ejection=A50
    )

    def calls(self, world: World, **failed: int) -> None:
        for name, failures in failed.items():
            world.fail(name, failures)
            world.serve(name, 100 - failures)
        world.sleep(10.0)
        world.fail("a", 1)

    def test_one_of_five_is_far_below_the_others(self):
        world = World(*"abcde", detection=self.DETECTION)
        self.calls(world, a=1, b=0, c=0, d=2, e=30)
        assert world.ejected == ["e"]
        assert world.events[0].reason == "70% of its calls succeeded, 93% on the average"

    def test_all_alike_are_no_outliers_however_bad(self):
        world = World(*"abcde", detection=self.DETECTION)
        self.calls(world, a=60, b=60, c=59, d=61, e=60)
        assert world.ejected == []

    def test_four_are_not_compared(self):
        world = World(*"abcd", detection=self.DETECTION)
        self.calls(world, a=0, b=0, c=0, d=50)
        assert world.ejected == []


class TestShareEjected:
    @pytest.mark.parametrize(
        ("size", "percent", "most"),
        [(1, 50, 0), (2, 50, 1), (3, 50, 1), (3, 10, 1), (10, 50, 5), (10, 0, 0), (10, 100, 10)],
    )
    def test_is_never_exceeded(self, size, percent, most):
        names = [str(number) for number in range(size)]
        detection = OutlierDetection(max_ejection_percent=percent)
        world = World(*names, detection=detection)
        for name in names:
            world.fail(name, 20)
        assert len(world.ejected) == most

    def test_a_sweep_keeps_to_it_too(self):
        detection = OutlierDetection(consecutive_failures=0)
        world = World(*"abcdef", detection=detection)
        for name in "abcde":
            world.fail(name, 20)
        world.sleep(10.0)
        world.fail("a", 1)
        assert len(world.ejected) == 3
        assert len(world.events) == 3

    def test_a_node_that_fails_on_is_ejected_when_there_is_room(self):
        world = World("a", "b", "c")
        world.fail("a", 5)
        world.fail("b", 50)
        assert world.ejected == ["a"]
        world.sleep(10.0)
        assert world.pick() is world["a"]
        world.end(world["a"])
        world.fail("b", 1)
        assert world.ejected == ["b"]


class TestPanic:
    def test_too_few_are_left_when_others_are_lost(self):
        world = World(*"abcde")
        world.fail("a")
        world.fail("b")
        assert set(world.picks()) == {"c", "d", "e"}
        world.balancer.set_readiness(world["c"], Readiness.FAILING)
        assert set(world.picks()) == {"d", "e"}
        world.balancer.set_readiness(world["d"], Readiness.CONNECTING)
        assert set(world.picks()) == {"a", "b", "e"}
        world.balancer.set_readiness(world["d"], Readiness.READY)
        assert set(world.picks()) == {"d", "e"}

    def test_all_ejected_are_all_picked(self):
        world = World("a", "b", detection=OutlierDetection(max_ejection_percent=100))
        world.fail("a")
        world.fail("b")
        assert str(world.balancer.counts()) == "2 ejected"
        assert set(world.picks()) == {"a", "b"}

    def test_can_be_off(self):
        detection = OutlierDetection(max_ejection_percent=100, panic_threshold=0)
        world = World("a", "b", detection=detection)
        world.fail("a")
        world.fail("b")
        assert world.pick() is None
        world.sleep(10.0)
        assert {world.pick(), world.pick()} == {world["a"], world["b"]}  # to see how they are
        assert world.pick() is None

    def test_a_draining_node_is_no_worse_than_an_ejected_one(self):
        world = World("a", "b")
        world.fail("a")
        world.balancer.set_readiness(world["b"], Readiness.FAILING)
        assert set(world.picks()) == {"a"}


class TestTheWayBack:
    def ejected(self) -> World:
        world = World("a", "b", "c", policy=PowerOfTwo())
        world.fail("a")
        return world

    def test_one_call_probes_when_the_time_has_come(self):
        world = self.ejected()
        world.sleep(world.events[0].seconds - 0.01)
        assert set(world.picks()) == {"b", "c"}
        world.sleep(0.02)
        assert world.picks(300)["a"] == 1

    def test_a_success_readmits(self):
        world = self.ejected()
        world.sleep(10.0)
        probed = world.pick()
        world.sleep(0.5)
        world.end(probed, sent_at=world.now - 0.5)
        assert world.events[1:] == [Readmitted(world["a"], 10.5)]
        assert set(world.picks()) == {"a", "b", "c"}
        world.fail("a", 4)
        assert world.ejected == []  # with a clean record

    @pytest.mark.parametrize("code", ["NOT_FOUND", "ABORTED"])
    def test_so_does_an_answer_of_the_application(self, code):
        world = self.ejected()
        world.sleep(10.0)
        world.end(world.pick(), code)
        assert world.ejected == []

    def test_a_failure_doubles_the_time(self):
        world = self.ejected()
        for times in range(1, 12):
            world.sleep(world.events[-1].seconds)
            world.end(world.pick(), "UNAVAILABLE")
            least = min(300.0, 5.0 * 2**times)
            assert least <= world.events[-1].seconds <= min(300.0, 1.25 * least)
        assert world.events[-1].reason == "tried again, it ended the call with UNAVAILABLE"
        assert world.ejected == ["a"]

    @pytest.mark.parametrize("code", ["CANCELLED", "RESOURCE_EXHAUSTED"])
    def test_an_end_that_says_nothing_leaves_it_to_the_next_call(self, code):
        world = self.ejected()
        world.sleep(10.0)
        a = world.pick()
        world.end(a, code)
        assert len(world.events) == 1
        assert world.pick() is a
        assert world.pick() is not a

    def test_a_probe_that_does_not_end_is_followed_by_another(self):
        world = self.ejected()
        world.sleep(10.0)
        assert world.picks()["a"] == 1
        world.sleep(5.0)
        assert world.picks()["a"] == 1

    def test_calls_sent_before_prove_nothing(self):
        world = self.ejected()
        before = world.now
        world.sleep(10.0)
        a = world.pick()
        world.end(a, "DEADLINE_EXCEEDED", sent_at=before - 1.0)
        world.end(a, "OK", sent_at=before - 1.0)
        assert len(world.events) == 1
        world.end(a)
        assert world.ejected == []
        for _ in range(5):
            world.end(a, "DEADLINE_EXCEEDED", sent_at=before - 1.0)
        assert world.ejected == []

    def test_a_lost_connection_waits_for_the_next_one(self):
        world = self.ejected()
        a = world["a"]
        world.balancer.set_readiness(a, Readiness.CONNECTING)
        assert str(world.balancer.counts()) == "2 ready, 1 connecting"
        world.sleep(10.0)
        assert set(world.picks()) == {"b", "c"}
        world.balancer.set_readiness(a, Readiness.READY)
        assert world.picks()["a"] == 1
        world.end(a)
        assert set(world.picks()) == {"a", "b", "c"}

    def test_who_cannot_be_reached_is_not_tried_though_others_are(self):
        world = World(*"abcdef")
        world.fail("a")
        world.fail("b")
        world.balancer.set_readiness(world["a"], Readiness.FAILING)
        world.sleep(10.0)
        picks = world.picks()
        assert "a" not in picks
        assert picks["b"] == 1

    def test_what_was_before_is_no_longer_counted(self):
        world = World("a", "b", "c")
        world.fail("c", 1)  # the interval begins
        world.serve("a", 100)
        world.fail("a")
        world.sleep(6.5)
        world.end(world.pick())
        for code in ["OK", "INTERNAL", "INTERNAL"] * 4:
            world.end(world["a"], code)
        world.sleep(10.0)
        world.fail("c", 1)
        assert world.events[-1].reason == "8 of its 12 calls failed"

    def test_who_has_left_is_forgotten(self):
        world = self.ejected()
        gone = world["a"]
        world.want("b", "c")
        outliers = world.balancer._outliers
        assert not any(gone in known for known in (outliers.ejected, outliers._records))
        assert gone not in outliers._finished

    def test_the_time_is_lived_down(self):
        world = self.ejected()
        world.sleep(10.0)
        world.end(world.pick())
        world.sleep(5.0)
        world.fail("a")
        assert 7.0 <= world.events[-1].seconds <= 9.0  # half an interval, half a doubling
        world.sleep(10.0)
        world.end(world.pick())
        world.sleep(100.0)
        world.fail("a")
        assert 5.0 <= world.events[-1].seconds <= 6.25

    def test_another_process_at_the_address_starts_afresh(self):
        world = self.ejected()
        world.balancer.reconcile(world.balancer._want)
        world.want(endpoint("a", "elsewhere:1"), "b", "c")
        assert set(world.picks()) == {"a", "b", "c"}

    def test_a_new_description_does_not_readmit(self):
        world = self.ejected()
        world.want(endpoint("a", weight=50), "b", "c")
        assert world.ejected == ["a"]

    def test_clients_come_back_one_by_one(self):
        times = set()
        for seed in range(20):
            world = World("a", "b", "c", seed=seed)
            world.fail("a")
            times.add(round(world.events[0].seconds, 2))
        assert len(times) > 10


@pytest.mark.parametrize(
    "wrong",
    [
        {"interval": 0.0},
        {"base_ejection_time": -1.0},
        {"max_ejection_time": 0.0},
        {"max_ejection_percent": 101},
        {"panic_threshold": -1},
        {"consecutive_failures": -1},
        {"failure_codes": frozenset({"OK"})},
    ],
)
def test_bad_rules_are_refused(wrong):
    (name,) = wrong
    with pytest.raises(ConfigError, match=name):
        OutlierDetection(**wrong)


@pytest.mark.parametrize("kind", [SuccessRateEjection, FailurePercentageEjection])
@pytest.mark.parametrize("name", ["enforcement_percentage", "minimum_hosts", "request_volume"])
def test_bad_comparisons_are_refused(kind, name):
    with pytest.raises(ConfigError, match=name):
        kind(**{name: -1})


@given(
    severity=st.floats(0, 1e6),
    base=st.floats(0.01, 100),
    most=st.floats(0.01, 1000),
    seed=st.integers(),
)
def test_the_ejection_time_is_bounded(severity, base, most, seed):
    detection = OutlierDetection(base_ejection_time=base, max_ejection_time=most)
    seconds = detection.ejection_time(severity, random.Random(seed))
    base, most = detection.base_ejection_time, detection.max_ejection_time
    assert base <= seconds <= max(base, most)


NAMES = "abcdefg"
CODES = ["OK", "UNAVAILABLE", "INTERNAL", "NOT_FOUND", "CANCELLED", "RESOURCE_EXHAUSTED"]


class OutlierMachine(RuleBasedStateMachine):
    """Calls that end in any way, connections that come and go, and time that passes."""

    @initialize(
        size=st.integers(1, 7),
        percent=st.sampled_from([0, 10, 50, 100]),
        panic=st.sampled_from([1, 50, 100]),
        policy=st.sampled_from([RoundRobin(), PowerOfTwo()]),
        seed=st.integers(0, 100),
    )
    def begin(self, size, percent, panic, policy, seed):
        self.detection = OutlierDetection(max_ejection_percent=percent, panic_threshold=panic)
        self.world = World(*NAMES[:size], detection=self.detection, policy=policy, seed=seed)
        self.under_way: list = []
        self.probes: dict = {}

    @rule(times=st.integers(1, 10))
    def call(self, times):
        for _ in range(times):
            before = {node: self.world.balancer._outliers.ejected[node] for node in self.out()}
            node = self.world.pick()
            if node is None:
                return
            assert node in self.world.balancer._states.nodes["ready"] or node in before
            if node in before and not self.panics():
                assert self.world.now >= before[node]  # not before its time
                last = self.probes.get(node, -1e9)
                assert self.world.now >= last + 5.0 or node not in [n for n, _ in self.under_way]
                self.probes[node] = self.world.now
            self.under_way.append((node, self.world.now))

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), code=st.sampled_from(CODES), times=st.integers(1, 8))
    def end(self, data, code, times):
        for _ in range(min(times, len(self.under_way))):
            index = data.draw(st.integers(0, len(self.under_way) - 1))
            node, sent_at = self.under_way.pop(index)
            room = self.detection.most_ejected(len(self.out()) + len(self.ready()))
            count = len(self.out())
            self.world.end(node, code, sent_at=sent_at)
            if code in ("CANCELLED", "RESOURCE_EXHAUSTED"):  # said nothing: the next call will tell
                self.probes.pop(node, None)
            assert len(self.out()) <= max(count, room)

    @rule(seconds=st.sampled_from([0.1, 1.0, 6.0, 11.0, 400.0]))
    def wait(self, seconds):
        self.world.sleep(seconds)

    @rule(name=st.sampled_from(NAMES), readiness=st.sampled_from(Readiness))
    def connection(self, name, readiness):
        for node in self.world.balancer.nodes:
            if node.endpoint.id == name:
                self.world.balancer.set_readiness(node, readiness)

    def out(self):
        return list(self.world.balancer._states.nodes["ejected"])

    def ready(self):
        return self.world.balancer._states.nodes["ready"]

    def panics(self) -> bool:
        return self.detection.is_panic(len(self.ready()), len(self.out()))

    @invariant()
    def somebody_is_picked_if_anybody_is_connected(self):
        balancer = self.world.balancer
        assert bool(balancer.group()._choice()) == bool(self.ready() or self.out())

    @invariant()
    def times_are_bounded(self):
        for event in self.world.events:
            if isinstance(event, Ejected):
                assert 5.0 <= event.seconds <= 300.0

    @invariant()
    def all_nodes_are_counted_once(self):
        counts = self.world.balancer.counts()
        assert sum(getattr(counts, n) for n in counts.__slots__) == len(self.world.balancer.nodes)


def test_there_is_no_room_when_others_have_left():
    """One of three is out, the two others lose their connections, and one of them fails on."""
    rule = FailurePercentageEjection(minimum_hosts=1, request_volume=1)
    detection = OutlierDetection(max_ejection_percent=34, failure_percentage_ejection=rule)
    world = World("a", "b", "c", detection=detection)
    world.fail("a")
    assert world.ejected == ["a"]
    for name in ("b", "c"):
        world.balancer.set_readiness(world[name], Readiness.FAILING)
    world.fail("b", times=1)
    world.sleep(20.0)
    world.fail("b", times=1)
    assert world.ejected == ["a"]


OutlierMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestAnyOrderOfEnds = OutlierMachine.TestCase


@pytest.mark.parametrize("policy", [RoundRobin(), PowerOfTwo()])
@pytest.mark.parametrize("seed", range(5))
def test_one_of_ten_that_fails_fast_takes_hardly_a_call(policy, seed):
    """400 calls/s; after 2 s it takes less than 2 % of them, and is back when it is well."""
    world = World(*"abcdefghij", policy=policy, seed=seed)
    late: Counter[str] = Counter()
    for number in range(60 * 400):
        world.sleep(1 / 400)
        node = world.pick()
        is_sick = node.endpoint.id == "d" and number < 30 * 400
        world.end(node, "UNAVAILABLE" if is_sick else "OK")
        if 2 * 400 <= number < 30 * 400:
            late[node.endpoint.id] += 1
    assert late["d"] / late.total() < 0.002
    assert world.ejected == []
    assert world.balancer.pick_other(CALL, []) is not None
