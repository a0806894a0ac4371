"""What a stream is sent, in both variants: pure, request by request."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshkit.xds.exchange import WILDCARD, Absent, Change
from meshkit.xds.resources import CLUSTER, ENDPOINT, LISTENER, PUSH_ORDER, ROUTE, Resource
from meshkit.xds.subscription import Subscriptions

BOTH = pytest.mark.parametrize("delta", [False, True])
LISTED = {LISTENER, CLUSTER}


class Shelf:
    """What there is: versions by type and name; None is not known yet."""

    def __init__(self, **clusters):
        self.there: dict[tuple[str, str], str | None] = {}
        for name, version in clusters.items():
            self.put(name, version)
        self.lists = True

    def put(self, name, version, *types):
        for type_url in types or PUSH_ORDER:
            self.there[type_url, name] = version

    def drop(self, name):
        for type_url in PUSH_ORDER:
            self.there.pop((type_url, name), None)

    def find(self, type_url, name, *, fresh):
        version = self.there.get((type_url, name), Absent.NONE)
        if version is None:
            return Absent.UNKNOWN
        return version if version is Absent.NONE else Resource(name, version, b"")

    def listed(self, type_url, *, fresh):
        return {name for url, name in self.there if url == type_url} if self.lists else None


class Peer:
    """A client that does as the protocol says, and remembers what it has."""

    def __init__(self, shelf, *, delta):
        self.shelf, self.delta = shelf, delta
        self.subscriptions = Subscriptions(delta=delta)
        self.wanted: dict[str, set[str]] = {}
        self.has: dict[str, dict[str, str]] = {url: {} for url in PUSH_ORDER}
        self.nonces: dict[str, str] = {}
        self.sent: list = []

    def want(self, type_url, *names, has_some=False):
        names, before = set(names), self.wanted.get(type_url, set())
        self.wanted[type_url] = names
        if self.delta:
            change = Change(more=tuple(names - before), fewer=tuple(before - names))
        else:
            change = Change(
                names=tuple(names), nonce=self.nonces.get(type_url, ""), has_some=has_some
            )
        if WILDCARD not in names:
            self.has[type_url] = {
                name: version for name, version in self.has[type_url].items() if name in names
            }
        self.subscriptions.take(type_url, change)

    def read(self, refuse=()):
        """Take what is due, answer it, and return it."""
        answers = []
        for answer in self.subscriptions.due(self.shelf):
            answers.append(answer)
            self.nonces[answer.type_url] = answer.nonce
            self._take(answer, bool(set(refuse) & {each.name for each in answer.resources}))
        self.sent += answers
        return [(each.type_url, tuple(sorted(r.name for r in each.resources))) for each in answers]

    def _take(self, answer, refused):
        has = self.has[answer.type_url]
        if not refused:
            if not self.delta and answer.type_url in LISTED:
                has.clear()
            has.update((each.name, each.version) for each in answer.resources)
            for name in answer.removed if self.delta else ():
                has.pop(name, None)
        names = None if self.delta else tuple(self.wanted.get(answer.type_url, ()))
        error = "no, thank you" if refused else ""
        change = Change(names=names, nonce=answer.nonce, error=error)
        return self.subscriptions.take(answer.type_url, change)


@BOTH
def test_what_is_asked_for_is_sent_once(delta):
    peer = Peer(Shelf(a="1"), delta=delta)
    peer.want(LISTENER, "a")
    assert peer.read() == [(LISTENER, ("a",))]
    assert peer.read() == []
    peer.shelf.put("a", "2")
    assert peer.read() == [(LISTENER, ("a",))]
    assert peer.read() == []


@BOTH
def test_a_burst_of_changes_is_one_answer(delta):
    peer = Peer(Shelf(a="1"), delta=delta)
    peer.want(ENDPOINT, "a")
    peer.read()
    for version in range(100):
        peer.shelf.put("a", str(version))
    assert peer.read() == [(ENDPOINT, ("a",))]
    assert peer.has[ENDPOINT] == {"a": "99"}


@BOTH
def test_answers_come_in_the_order_of_make_before_break(delta):
    peer = Peer(Shelf(a="1"), delta=delta)
    for type_url in (ROUTE, LISTENER, ENDPOINT, CLUSTER):
        peer.want(type_url, "a")
    assert [type_url for type_url, _ in peer.read()] == list(PUSH_ORDER)


def test_in_state_of_the_world_listeners_and_clusters_are_always_all():
    peer = Peer(Shelf(a="1", b="1"), delta=False)
    for type_url in (CLUSTER, ENDPOINT):
        peer.want(type_url, "a", "b")
    peer.read()
    peer.shelf.put("a", "2", CLUSTER)
    assert peer.read() == [(CLUSTER, ("a", "b")), (ENDPOINT, ("a",))]


def test_in_delta_only_what_is_new_is_sent():
    peer = Peer(Shelf(a="1", b="1"), delta=True)
    peer.want(CLUSTER, "a", "b")
    peer.read()
    peer.shelf.put("a", "2", CLUSTER)
    assert peer.read() == [(CLUSTER, ("a",))]


@BOTH
def test_the_endpoints_of_a_changed_cluster_are_sent_again(delta):
    """Or Envoy waits for them until its fetch times out."""
    peer = Peer(Shelf(a="1", b="1"), delta=delta)
    for type_url in (CLUSTER, ENDPOINT):
        peer.want(type_url, "a", "b")
    peer.read()
    peer.shelf.put("a", "2", CLUSTER)
    assert (ENDPOINT, ("a",)) in peer.read()


@BOTH
def test_nothing_is_said_of_what_is_not_known_yet(delta):
    peer = Peer(Shelf(a=None), delta=delta)
    for type_url in PUSH_ORDER:
        peer.want(type_url, "a")
    assert peer.read() == []
    peer.shelf.put("a", "1")
    assert len(peer.read()) == len(PUSH_ORDER)


@BOTH
def test_one_that_is_not_known_yet_takes_nothing_from_the_client(delta):
    peer = Peer(Shelf(a="1"), delta=delta)
    peer.want(CLUSTER, "a")
    peer.read()
    peer.shelf.put("b", None)
    peer.want(CLUSTER, "a", "b")
    peer.read()
    assert peer.has[CLUSTER] == {"a": "1"}


def test_a_client_from_another_replica_keeps_what_is_not_known_here_yet():
    """In state of the world, what is not in an answer is deleted."""
    peer = Peer(Shelf(a="1", b=None), delta=False)
    peer.want(CLUSTER, has_some=True)
    assert peer.read() == []
    peer.shelf.put("b", "1")
    assert peer.read() == [(CLUSTER, ("a", "b"))]


def test_delta_is_told_what_does_not_exist_once():
    peer = Peer(Shelf(), delta=True)
    peer.want(ENDPOINT, "a")
    peer.read()
    assert [answer.removed for answer in peer.sent] == [("a",)]
    assert peer.read() == []
    peer.shelf.put("a", "1")
    assert peer.read() == [(ENDPOINT, ("a",))]


@BOTH
def test_all_there_are(delta):
    peer = Peer(Shelf(a="1", b="1"), delta=delta)
    peer.want(CLUSTER)
    assert peer.read() == [(CLUSTER, ("a", "b"))]
    peer.shelf.put("c", "1")
    peer.read()
    peer.shelf.drop("a")
    peer.read()
    assert peer.has[CLUSTER] == {"b": "1", "c": "1"}


@BOTH
def test_that_there_is_none_is_an_answer(delta):
    """Or an Envoy that starts before any service waits with its listeners."""
    peer = Peer(Shelf(), delta=delta)
    peer.want(CLUSTER)
    assert peer.read() == [(CLUSTER, ())]
    assert peer.read() == []


@BOTH
def test_the_names_of_all_are_not_known_yet(delta):
    peer = Peer(Shelf(a="1"), delta=delta)
    peer.shelf.lists = False
    peer.want(CLUSTER)
    assert peer.read() == []
    peer.shelf.lists = True
    assert peer.read() == [(CLUSTER, ("a",))]


def test_names_after_the_wildcard_replace_it():
    peer = Peer(Shelf(a="1", b="1"), delta=False)
    peer.want(CLUSTER)
    peer.read()
    peer.want(CLUSTER, "a")
    assert peer.read() == []
    peer.want(CLUSTER)  # after names, no names are none
    peer.shelf.put("b", "2")
    assert peer.read() == []


def test_the_wildcard_can_be_taken_back_in_delta():
    peer = Peer(Shelf(a="1", b="1"), delta=True)
    peer.subscriptions.take(CLUSTER, Change())
    peer.read()
    peer.subscriptions.take(CLUSTER, Change(fewer=(WILDCARD,)))
    peer.shelf.put("b", "2")
    assert peer.read() == []


@BOTH
def test_what_was_refused_is_not_sent_again_until_it_changes(delta):
    peer = Peer(Shelf(a="bad"), delta=delta)
    peer.want(CLUSTER, "a")
    peer.read(refuse=["a"])
    refusal = peer.subscriptions.by_type[CLUSTER].refusal
    assert (dict(refusal.versions), refusal.reason) == ({"a": "bad"}, "no, thank you")
    assert peer.read() == []
    peer.shelf.put("a", "good")
    peer.read()
    assert peer.has[CLUSTER] == {"a": "good"}
    assert peer.subscriptions.by_type[CLUSTER].refusal is None


def test_a_stale_request_is_not_listened_to():
    peer = Peer(Shelf(a="1", b="1"), delta=False)
    peer.want(ENDPOINT, "a")
    peer.read()
    stale = peer.nonces[ENDPOINT]
    peer.shelf.put("a", "2")
    peer.read()
    peer.subscriptions.take(ENDPOINT, Change(names=("b",), nonce=stale))
    assert peer.subscriptions.names() == {"a"}
    peer.want(ENDPOINT, "a", "b")  # with the nonce of an answer that it answered before
    assert peer.read() == [(ENDPOINT, ("b",))]


def test_each_of_several_answers_is_answered():
    """grpc-js asks for one name after the other, and answers what came meanwhile."""
    subscriptions, shelf = Subscriptions(delta=False), Shelf(a="1", b="1")
    answers = []
    for names in (("a",), ("a", "b")):
        subscriptions.take(ENDPOINT, Change(names=names))
        answers += subscriptions.due(shelf)
    for answer in answers:
        subscriptions.take(ENDPOINT, Change(names=("a", "b"), nonce=answer.nonce))
    assert subscriptions.by_type[ENDPOINT].accepted == {"a": "1", "b": "1"}
    assert list(subscriptions.due(shelf)) == []


def test_a_resource_that_was_unsubscribed_is_sent_again():
    peer = Peer(Shelf(a="1", b="1"), delta=False)
    peer.want(ENDPOINT, "a", "b")
    peer.read()
    peer.want(ENDPOINT, "a")
    peer.want(ENDPOINT, "a", "b")
    assert peer.read() == [(ENDPOINT, ("b",))]


def test_delta_clients_that_ask_again_have_lost_it():
    peer = Peer(Shelf(a="1"), delta=True)
    peer.want(ENDPOINT, "a")
    peer.read()
    peer.subscriptions.take(ENDPOINT, Change(more=("a",)))
    assert peer.read() == [(ENDPOINT, ("a",))]


def test_delta_clients_keep_what_they_have_from_another_replica():
    peer = Peer(Shelf(a="1", b="2"), delta=True)
    first = Change(more=("a", "b", "c"), versions={"a": "1", "b": "1", "c": "1"}, has_some=True)
    peer.subscriptions.take(ENDPOINT, first)
    assert peer.read() == [(ENDPOINT, ("b",))]
    assert peer.sent[0].removed == ("c",)


def test_delta_clients_learn_what_is_gone_since():
    peer = Peer(Shelf(a="1"), delta=True)
    peer.subscriptions.take(CLUSTER, Change(versions={"a": "1", "old": "1"}, has_some=True))
    peer.read()
    assert [(each.changed, each.removed) for each in peer.sent] == [((), ("old",))]


@BOTH
def test_routes_wait_until_an_envoy_uses_their_clusters(delta):
    """It fails calls to a cluster whose endpoints it does not have yet."""
    peer = Peer(Shelf(a="1"), delta=delta)
    peer.want(CLUSTER, WILDCARD)
    peer.want(ENDPOINT, "a")
    peer.want(ROUTE, "a")
    peer.read()
    peer.shelf.put("a", "2", ROUTE)
    peer.shelf.put("b", "1", CLUSTER, ENDPOINT)
    assert peer.read() == [(CLUSTER, ("b",) if delta else ("a", "b"))]
    assert peer.read() == []
    peer.want(ENDPOINT, "a", "b")
    assert peer.read() == [(ENDPOINT, ("b",)), (ROUTE, ("a",))]


def test_answers_that_nobody_answers_are_forgotten():
    subscriptions, shelf = Subscriptions(delta=True), Shelf(a="0")
    subscriptions.take(ENDPOINT, Change(more=("a",)))
    for version in range(200):
        shelf.put("a", str(version))
        list(subscriptions.due(shelf))
    assert len(subscriptions.by_type[ENDPOINT]._pending) <= 64


@BOTH
def test_other_types_are_not_answered(delta):
    peer = Peer(Shelf(a="1"), delta=delta)
    assert peer.subscriptions.take("type.googleapis.com/Secret", Change(more=("a",))) is None
    assert peer.read() == []


NAMES = st.sampled_from("abc")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), NAMES, st.sampled_from("123")),
        st.tuples(st.just("drop"), NAMES),
        st.tuples(st.just("hide"), NAMES),
        st.tuples(st.just("want"), st.sampled_from(PUSH_ORDER), st.sets(NAMES, min_size=1)),
        st.tuples(st.just("all"), st.sampled_from(sorted(LISTED))),
        st.tuples(st.just("read")),
    ),
    max_size=30,
)


@BOTH
@given(steps=STEPS)
def test_in_the_end_clients_have_what_there_is(delta, steps):
    peer = Peer(Shelf(), delta=delta)
    for step, *values in steps:
        if step == "put":
            peer.shelf.put(*values)
        elif step == "drop":
            peer.shelf.drop(*values)
        elif step == "hide":
            peer.shelf.put(values[0], None)
        elif step == "want":
            peer.want(values[0], *values[1])
        elif step == "all":
            peer.want(values[0], WILDCARD)
        else:
            peer.read()
    for name in "abc":  # in the end all is known
        if peer.shelf.there.get((CLUSTER, name), "") is None:
            peer.shelf.put(name, "known")
    for type_url in (CLUSTER, ENDPOINT):  # and an Envoy asks for the endpoints of its clusters
        if type_url == ENDPOINT and CLUSTER in peer.wanted:
            peer.want(ENDPOINT, *peer.wanted.get(ENDPOINT, ()), *peer.has[CLUSTER])
        peer.read()
    peer.read()
    for type_url, names in peer.wanted.items():
        there = {name: v for (url, name), v in peer.shelf.there.items() if url == type_url}
        found = {name: v for name, v in peer.has[type_url].items() if name in there}
        wanted = there if WILDCARD in names else {n: v for n, v in there.items() if n in names}
        assert found == wanted
        if delta or type_url in LISTED:
            assert peer.has[type_url] == wanted
    assert peer.read() == []
    nonces = [answer.nonce for answer in peer.sent]
    assert len(set(nonces)) == len(nonces)
    assert all(a != b for a, b in itertools.pairwise(nonces))
