import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshkit.endpoint import Delta, Endpoint, EndpointSet, State
from meshkit.errors import ConfigError

endpoints = st.builds(
    Endpoint,
    service=st.just("s"),
    id=st.sampled_from("abcdef"),
    address=st.sampled_from([f"h:{port}" for port in range(1, 7)]),
    weight=st.integers(0, 2),
    state=st.sampled_from(State),
    metadata=st.dictionaries(st.sampled_from("kl"), st.sampled_from("vw")),
)
sets = st.lists(endpoints, max_size=8).map(lambda found: EndpointSet.of("s", found))


def endpoint(name, **fields):
    return Endpoint(service="s", id=name, address=fields.pop("address", f"{name}:1"), **fields)


def apply(older, delta):
    kept = {e.id: e for e in older or ()}
    for gone in delta.removed:
        assert kept.pop(gone.id) == gone
    for new in delta.added:
        assert new.id not in kept
    for other in delta.changed:
        assert kept[other.id] != other
    return kept | {e.id: e for e in (*delta.added, *delta.changed)}


@given(sets, sets)
def test_old_and_what_differs_make_new(older, newer):
    delta = newer.since(older)
    assert apply(older, delta) == dict(newer.by_id)
    assert bool(delta) == (dict(older.by_id) != dict(newer.by_id))


@given(sets)
def test_since_nothing_all_is_new(newer):
    assert newer.since(None) == Delta(added=tuple(newer))
    assert not newer.since(newer)


@given(st.lists(endpoints, max_size=8))
def test_a_set_has_one_endpoint_for_an_address_in_order_of_id(found):
    made = EndpointSet.of("s", found)
    assert [e.id for e in made] == sorted({e.id for e in made})
    assert len({e.address for e in made}) == len(made) == len(made.by_id)
    last = {e.address: e for e in found}
    assert all(last[e.address] == e for e in made)


def test_metadata_is_copied_and_cannot_be_changed():
    labels = {"a": "1"}
    one = endpoint("x", metadata=labels)
    labels["a"] = "2"
    assert one.metadata == {"a": "1"}
    with pytest.raises(TypeError):
        one.metadata["a"] = "3"
    assert hash(one) == hash(endpoint("x", metadata={"other": "labels"}))


def test_a_negative_weight_is_refused():
    with pytest.raises(ConfigError, match="weight must be 0 or more, got -1"):
        endpoint("x", weight=-1)
    assert endpoint("x", weight=0).weight == 0


def test_it_is_shown_for_people():
    found = EndpointSet.of("s", [endpoint("b"), endpoint("a")], revision=7)
    assert repr(found) == "<EndpointSet 's' r7: a:1, b:1>"
    assert repr(EndpointSet("s")) == "<EndpointSet 's' r0: empty>"
