from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from meshkit.endpoint import Endpoint, EndpointSet, State
from meshkit.registry.store import Batch, KeyValue, Listing
from meshkit.registry.view import View
from tests.registry.plain_view import PlainView

HOLD = 20.0


def decode(key: str, value: bytes) -> Endpoint:
    address = value.decode()
    if address == "garbage":
        raise ValueError("no endpoint")
    words = address.split()
    state = State.DRAINING if words[0] == "draining" else State.SERVING
    return Endpoint(service="hello", id=key, address=words[-1], state=state)


def item(key: str, text: str | None) -> KeyValue:
    """An entry as the registry has it; it is leased if its text says so."""
    leased = text is not None and text.startswith("leased")
    return KeyValue(key, None if text is None else text.encode(), lease=int(leased))


class Bench:
    """A view, the revisions of its news, and what it skipped."""

    def __init__(self) -> None:
        self.skipped = []
        self.revision = 0
        self.view = View(
            "hello", decode, hold=HOLD, skip=lambda key, reason: self.skipped.append((key, reason))
        )

    def relist(self, now: float = 0.0, **entries: str) -> EndpointSet:
        self.revision += 1
        items = tuple(item(key, value) for key, value in entries.items())
        return self.view.relist(Listing(self.revision, items), now)

    def apply(self, now: float = 0.0, **changes: str | None) -> EndpointSet:
        self.revision += 1
        items = tuple(item(key, value) for key, value in changes.items())
        return self.view.apply(Batch(self.revision, items), now)


def ids(endpoints: EndpointSet) -> list[str]:
    return [endpoint.id for endpoint in endpoints]


def test_the_first_list_is_believed_as_it_is():
    bench = Bench()
    assert ids(bench.relist()) == []
    assert ids(Bench().relist(a="x:1", b="y:1")) == ["a", "b"]


def test_puts_and_deletes_of_one_revision_are_one_set():
    bench = Bench()
    bench.relist(a="x:1", b="y:1")
    known = bench.apply(a=None, c="z:1")
    assert (ids(known), known.revision) == (["b", "c"], 2)


def test_an_equal_put_is_no_change():
    bench = Bench()
    known = bench.relist(a="x:1")
    assert bench.apply(a="x:1") is known
    assert bench.relist(a="x:1") is known


def test_garbage_is_skipped_and_reported_once_per_value():
    bench = Bench()
    assert ids(bench.relist(a="x:1", b="garbage")) == ["a"]
    bench.relist(a="x:1", b="garbage")
    bench.apply(b="garbage")
    assert bench.skipped == [("b", "no endpoint")]


def test_garbage_is_reported_again_after_it_was_gone_or_good():
    bench = Bench()
    bench.relist(b="garbage")
    bench.apply(b=None)
    bench.apply(b="garbage")
    bench.relist()
    bench.relist(b="garbage")
    bench.apply(b="y:1")
    bench.apply(b="garbage")
    assert len(bench.skipped) == 4


def test_garbage_over_an_endpoint_ends_it():
    bench = Bench()
    bench.relist(a="x:1", b="y:1")
    assert ids(bench.apply(b="garbage")) == ["a"]


def test_garbage_in_a_relist_is_held_like_a_missing_key():
    bench = Bench()
    bench.relist(a="x:1", b="y:1")
    assert ids(bench.relist(a="x:1", b="garbage")) == ["a", "b"]


def test_of_one_address_the_newest_stands_and_the_older_comes_back():
    bench = Bench()
    bench.relist(a="x:1")
    assert ids(bench.apply(b="x:1")) == ["b"]
    assert ids(bench.apply(a="x:1")) == ["b"], "an equal put does not make it newer"
    assert ids(bench.apply(b=None)) == ["a"]


def test_a_new_value_makes_an_entry_the_newest():
    bench = Bench()
    bench.relist(a="x:1", b="y:1")
    assert ids(bench.apply(a="y:1")) == ["a"]


def test_missing_from_a_relist_is_held():
    bench = Bench()
    bench.relist(a="x:1", b="y:1")
    assert ids(bench.relist(10.0, a="x:1")) == ["a", "b"]
    assert bench.view.unconfirmed == 1
    assert bench.view.next_expiry == 30.0
    assert ids(bench.view.expire(29.9)) == ["a", "b"]
    assert ids(bench.view.expire(30.0)) == ["a"]
    assert bench.view.next_expiry is None


def test_the_hold_counts_from_the_first_list_without_it():
    bench = Bench()
    bench.relist(a="x:1", b="y:1")
    bench.relist(10.0, a="x:1")
    assert ids(bench.relist(25.0, a="x:1")) == ["a", "b"]
    assert ids(bench.relist(30.0, a="x:1")) == ["a"]


def test_what_comes_back_is_confirmed_again():
    bench = Bench()
    known = bench.relist(a="x:1", b="y:1")
    bench.relist(10.0, a="x:1")
    bench.apply(12.0, b="y:1")
    assert bench.view.unconfirmed == 0
    assert bench.view.expire(100.0) is known
    bench.relist(110.0, b="y:1")
    assert bench.relist(120.0, a="x:1", b="y:1") is known
    assert bench.view.expire(1000.0) is known


def test_a_delete_ends_a_held_entry_at_once():
    bench = Bench()
    bench.relist(a="x:1", b="y:1")
    bench.relist(10.0, a="x:1")
    assert ids(bench.apply(11.0, b=None)) == ["a"]


def test_a_put_of_its_address_ends_a_held_entry_at_once():
    bench = Bench()
    bench.relist(a="x:1", b="y:1")
    bench.relist(10.0, a="x:1")
    assert ids(bench.apply(11.0, c="y:1")) == ["a", "c"]
    assert ids(bench.apply(12.0, c=None)) == ["a"], "it does not come back"


def test_an_address_that_stands_under_another_key_is_not_held():
    bench = Bench()
    bench.relist(a="x:1")
    assert ids(bench.relist(10.0, b="x:1")) == ["b"]
    assert bench.view.unconfirmed == 0


def test_a_relist_alone_never_empties_the_set():
    bench = Bench()
    known = bench.relist(a="x:1", b="y:1")
    assert bench.relist(10.0) is known
    assert bench.view.next_expiry is None
    assert bench.view.expire(1e6) is known
    assert bench.relist(1e6) is known


def test_the_last_ones_go_when_something_is_put_after_their_time():
    bench = Bench()
    bench.relist(a="x:1", b="y:1")
    bench.relist(10.0)
    assert ids(bench.apply(15.0, c="z:1")) == ["a", "b", "c"]
    assert ids(bench.apply(40.0, d="w:1")) == ["c", "d"]


def test_the_last_one_goes_when_a_delete_names_it():
    bench = Bench()
    bench.relist(a="x:1")
    bench.relist(10.0)
    assert ids(bench.apply(11.0, a=None)) == []


def test_deletes_in_order_are_believed():
    bench = Bench()
    bench.relist(a="x:1", b="y:1")
    assert ids(bench.apply(a=None)) == ["b"]


def test_a_frozen_registry_that_ends_all_leases_does_not_empty_the_set():
    bench = Bench()
    bench.relist(a="x:1", b="y:1", c="z:1")
    assert ids(bench.apply(10.0, a=None)) == ["b", "c"]
    assert ids(bench.apply(10.0, b=None)) == ["c"]
    assert ids(bench.apply(10.0, c=None)) == ["a", "b", "c"]
    assert bench.view.unconfirmed == 3
    assert ids(bench.apply(10.1, b="y:1")) == ["a", "b", "c"]
    assert bench.view.next_expiry == 10.0 + HOLD
    assert ids(bench.apply(10.2, c="z:1")) == ["a", "b", "c"]
    assert ids(bench.view.expire(10.0 + HOLD)) == ["b", "c"]
    assert bench.view.unconfirmed == 0


def test_who_had_leases_is_held_although_something_stands_that_nobody_renews():
    bench = Bench()
    bench.relist(a="leased x:1", b="leased y:1", dead="z:1")
    assert ids(bench.apply(10.0, a=None)) == ["b", "dead"]
    assert ids(bench.apply(10.0, b=None)) == ["a", "b", "dead"]
    assert bench.view.next_expiry == 10.0 + HOLD
    assert ids(bench.apply(11.0, b="leased y:1")) == ["a", "b", "dead"]
    assert ids(bench.apply(12.0, dead=None)) == ["a", "b"], "deleted by hand, and others live"
    assert ids(bench.view.expire(10.0 + HOLD)) == ["b"]


@pytest.mark.parametrize("word", ["draining y:1", None])
def test_who_went_a_moment_ago_is_held_when_the_last_one_leaves(word):
    bench = Bench()
    bench.relist(a="x:1", b="y:1")
    assert ids(bench.apply(10.0, a=None)) == ["b"]  # its lease was revoked, and it lives
    if word:
        bench.apply(11.0, b=word)
    assert "a" in ids(bench.apply(11.0, b=None))
    assert bench.view.next_expiry == 10.0 + HOLD


def test_who_went_long_ago_is_gone():
    bench = Bench()
    bench.relist(a="x:1", b="y:1")
    bench.apply(10.0, a=None)
    assert ids(bench.apply(10.0 + HOLD, b=None)) == ["b"]
    bench.apply(30.0, b="y:1")
    bench.apply(30.0, b=None)
    bench.relist(40.0, c="z:1")
    assert not bench.view._gone  # and nothing is kept of it


def test_an_outage_does_not_count_for_what_is_held():
    bench = Bench()
    bench.relist(a="x:1", b="y:1")
    bench.apply(10.0, a=None)
    bench.apply(11.0, b=None)
    assert ids(bench.view.relist(Listing(9, ()), 100.0, unheard=88.0)) == ["a", "b"]
    assert bench.view.next_expiry == 10.0 + 88.0 + HOLD
    assert ids(bench.view.expire(99.0 + HOLD)) == []


def test_an_endpoint_that_is_held_stays_when_it_is_named_once_more():
    bench = Bench()
    bench.relist(a="x:1")
    assert ids(bench.apply(10.0, a=None)) == ["a"]
    assert ids(bench.apply(11.0, a="garbage")) == ["a"]
    assert bench.view.next_expiry == 10.0 + HOLD


def test_a_deletion_that_was_not_believed_is_after_its_time():
    bench = Bench()
    bench.relist(a="x:1")
    bench.apply(10.0, a=None)
    assert bench.view.next_expiry == 10.0 + HOLD
    assert ids(bench.view.expire(10.0 + HOLD - 0.1)) == ["a"]
    assert ids(bench.view.expire(10.0 + HOLD)) == []


def test_whoever_said_that_it_leaves_is_believed():
    bench = Bench()
    bench.relist(a="x:1")
    bench.apply(a="draining x:1")
    assert ids(bench.apply(a=None)) == []


TEXTS = ["x:1", "y:1", "z:1", "leased x:1", "leased y:1", "leased z:1", "garbage"]
entries = st.dictionaries(st.sampled_from("abcd"), st.sampled_from(TEXTS))
changes = st.dictionaries(st.sampled_from("abcd"), st.sampled_from([*TEXTS, None]), min_size=1)


def addresses_in(store: dict[str, str | None]) -> set[str]:
    """Of all endpoints there."""
    return {text.split()[-1] for text in store.values() if text not in (None, "garbage")}


class ViewModel(RuleBasedStateMachine):
    """Random lists, changes and waits against the rules as plainly as they can be said."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench()
        self.now = 0.0
        self.store: dict[str, str] = {}
        self.known = self.bench.view.expire(0.0)
        self.plain = PlainView(HOLD)

    def adopt(self, known: EndpointSet) -> None:
        if known is not self.known:
            assert known.by_id != self.known.by_id, "a new object, and no news"
        self.known = known

    def good(self) -> set[str]:
        return addresses_in(self.store)

    @initialize(first=entries)
    def first(self, first: dict[str, str]) -> None:
        self.store = first
        self.adopt(self.bench.relist(self.now, **first))
        self.plain.relist(self.now, first)
        assert {endpoint.address for endpoint in self.known} == self.good()

    @rule(listed=entries)
    def relist(self, listed: dict[str, str]) -> None:
        before = len(self.known)
        self.store = listed
        self.adopt(self.bench.relist(self.now, **listed))
        self.plain.relist(self.now, listed)
        assert self.known or not before, "a re-list emptied the set"

    @rule(changed=changes)
    def apply(self, changed: dict[str, str | None]) -> None:
        for key, value in changed.items():
            if value is None:
                self.store.pop(key, None)
            else:
                self.store[key] = value
        self.adopt(self.bench.apply(self.now, **changed))
        self.plain.apply(self.now, changed)
        if any(text.startswith("leased") for text in self.store.values()):
            for key, value in changed.items():
                assert key not in self.known.by_id or self.known.by_id[key].address in value

    @rule(seconds=st.sampled_from([0.1, 5.0, HOLD]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.adopt(self.bench.view.expire(self.now))
        self.plain.expire(self.now)

    @rule()
    def long_quiet(self) -> None:
        self.now += HOLD
        self.adopt(self.bench.view.expire(self.now))
        self.plain.expire(self.now)
        if self.good():
            assert {endpoint.address for endpoint in self.known} == self.good()
            assert self.bench.view.unconfirmed == 0

    @invariant()
    def what_stands_in_the_store_is_known(self) -> None:
        addresses = [endpoint.address for endpoint in self.known]
        assert self.good() <= set(addresses)
        assert len(addresses) == len(set(addresses))

    @invariant()
    def a_timer_is_set_whenever_time_will_change_something(self) -> None:
        expiry = self.bench.view.next_expiry
        held = self.bench.view._entries.held.values()
        may_end = bool(self.good()) or any(entry.deleted for entry in held)
        assert (expiry is not None) == (may_end and self.bench.view.unconfirmed > 0)
        assert expiry is None or self.now < expiry <= self.now + HOLD

    @invariant()
    def changes_made_what_a_fresh_start_would_make(self) -> None:
        assert dict(self.known.by_id) == dict(self.plain.endpoints().by_id)
        assert self.bench.view.unconfirmed == self.plain.unconfirmed()


TestViewModel = ViewModel.TestCase
TestViewModel.settings = settings(max_examples=80, stateful_step_count=25, deadline=None)


@given(st.lists(changes, max_size=12))
def test_in_order_changes_are_believed_but_for_the_last(batches):
    bench, store, before = Bench(), {}, EndpointSet("hello")
    bench.relist()
    for batch in batches:
        store |= batch
        known = bench.apply(**batch)
        good = addresses_in(store)
        if good:
            addresses = {endpoint.address for endpoint in known}
            assert good <= addresses
            assert len(addresses - good) <= bench.view.unconfirmed
        else:
            assert bool(known) == bool(before)
        before = known


DETAIL = {"rich": 2, "poor": 1, "poorer": 0}


def several() -> Bench:
    """A view of keys in layouts that can say more or less."""
    bench = Bench()
    bench.view = View("hello", decode, hold=HOLD, skip=print, detail=lambda key: DETAIL[key[:-1]])
    return bench


def by_lease(lease: int, **entries: str | None) -> tuple[KeyValue, ...]:
    return tuple(replace(item(key, value), lease=lease) for key, value in entries.items())


def test_of_one_address_the_entry_with_the_most_detail_stands():
    bench = several()
    assert ids(bench.relist(poorer1="x:1", rich1="x:1", poor1="x:1", poor2="y:1")) == [
        "poor2",
        "rich1",
    ]
    assert ids(bench.apply(poor3="x:1", poor4="y:1")) == ["poor4", "rich1"]
    assert ids(bench.apply(rich1=None)) == ["poor3", "poor4"]


def test_who_leaves_leaves_in_all_layouts_at_once():
    """Each key's deletion may come by itself; what is left meanwhile is nobody new."""
    bench = several()
    ours = by_lease(7, rich1="x:1", poor1="x:1", poorer1="x:1")
    others = by_lease(8, poor2="x:1", poor3="y:1")
    bench.view.relist(Listing(1, (*others, *ours)), 0.0)
    assert ids(bench.apply(rich1=None)) == ["poor2", "poor3"]
    assert ids(bench.apply(poor2=None)) == ["poor3"]
    assert ids(bench.apply(poor1=None)) == ids(bench.apply(poorer1=None)) == ["poor3"]


def test_who_says_as_much_under_another_key_has_not_left():
    bench = several()
    bench.view.relist(Listing(1, by_lease(7, rich1="x:1", rich2="x:1", poor1="x:1")), 0.0)
    assert ids(bench.apply(rich1=None)) == ["rich2"]
    assert ids(bench.apply(poor1=None)) == ["rich2"]
    assert ids(bench.apply(poor3=None)) == ["rich2"]
