import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshkit import sorted_map
from meshkit.sorted_map import SortedMap

keys = st.text("abcdef", min_size=1, max_size=2)
contents = st.dictionaries(keys, st.integers(0, 3))
changes = st.lists(st.tuples(contents, st.sets(keys)), max_size=8)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(sorted_map, "_CHUNK", 3)


def check(made, model):
    """Equal to one that is made from scratch, in every respect."""
    assert list(made.items()) == sorted(model.items())
    assert (len(made), dict(made)) == (len(model), model)
    assert all(made[key] == value and key in made for key, value in model.items())
    assert all(0 < len(chunk) <= 6 for chunk in made._chunks)
    assert made == SortedMap(model)


@given(contents, changes)
def test_changed_step_by_step_is_made_from_scratch(first, steps):
    made, model = SortedMap(first), dict(first)
    check(made, model)
    for put, drop in steps:
        before, older = dict(model), made
        made = made.with_changes(put, drop)
        model = {key: value for key, value in model.items() if key not in drop} | put
        check(made, model)
        check(older, before)


@given(contents, changes)
def test_differences_are_all_that_differs(first, steps):
    older = newer = SortedMap(first)
    for put, drop in steps:
        newer = newer.with_changes(put, drop)
    mine, theirs = newer.differences(older)
    assert {k: v for k, v in newer.items() if older.get(k) != v}.items() <= mine.items()
    assert {k: v for k, v in older.items() if newer.get(k) != v}.items() <= theirs.items()
    # What was left out, is in both.
    assert {k: v for k, v in newer.items() if k not in mine} == {
        k: v for k, v in older.items() if k not in theirs
    }
    assert (list(mine), list(theirs)) == (sorted(mine), sorted(theirs))


def test_a_change_shares_all_but_what_it_is_near():
    older = SortedMap({f"{number:03}": number for number in range(300)})
    newer = older.with_changes({"150": -1}, ["007"])
    mine, theirs = newer.differences(older)
    assert len(mine) <= 12 >= len(theirs)


def test_an_empty_one():
    empty = SortedMap()
    assert (len(empty), list(empty), repr(empty)) == (0, [], "SortedMap({})")
    assert "a" not in empty
    with pytest.raises(KeyError, match="a"):
        empty["a"]
    assert empty.with_changes({}, ["a"]) == empty == SortedMap({})


def test_it_can_be_pickled():
    made = SortedMap({"a": 1, "b": 2})
    assert pickle.loads(pickle.dumps(made)) == made
