import dataclasses
import inspect
import logging
import re

import pytest

from meshkit import events
from meshkit.endpoint import Delta, Endpoint
from meshkit.events import Event, TaskCrashed, emit_to

ENDPOINT = Endpoint(service="s", id="i", address="h:1", metadata={"token": "planted"})

SAMPLES = {
    "str": "text",
    "int": 255,
    "float": 1.5,
    "bool": True,
    "tuple[str, ...]": ("a", "b"),
    "Mapping[str, str]": {"a": "b"},
    "Mapping[str, int]": {"a": 1},
    "Endpoint": ENDPOINT,
    "Delta": Delta(added=(ENDPOINT,), changed=(ENDPOINT,), removed=(ENDPOINT,)),
    "BaseException": ValueError("planted"),
}

KINDS = [
    kind
    for kind in vars(events).values()
    if inspect.isclass(kind) and issubclass(kind, Event) and kind is not Event
]


def make(kind):
    return kind(**{field.name: SAMPLES[field.type] for field in dataclasses.fields(kind)})


def test_there_are_events():
    assert len(KINDS) > 15
    assert {kind.__name__ for kind in KINDS} < set(events.__all__)


@pytest.mark.parametrize("kind", KINDS)
def test_each_has_a_name_a_level_and_details_of_plain_values(kind):
    assert re.fullmatch(r"[a-z]+\.[a-z_]+", kind.name)
    assert kind.level.upper() in logging.getLevelNamesMapping()
    assert kind.__doc__
    details = make(kind).details()
    assert all(not isinstance(value, Endpoint | Delta) for value in details.values())
    assert "event" not in details  # structlog's own
    assert "token" not in str(details)  # metadata is the user's, and may be a secret


@pytest.mark.parametrize("kind", KINDS)
def test_each_is_a_value(kind):
    assert make(kind) == make(kind)
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(make(kind), dataclasses.fields(kind)[0].name, None)


def test_names_are_unique():
    assert len({kind.name for kind in KINDS}) == len(KINDS)


def test_every_hook_is_called_whatever_the_others_do(caplog):
    seen = []

    def broken(event):
        raise RuntimeError("my hook is broken")

    event = TaskCrashed("task", ValueError("x"))
    emit_to([broken, seen.append, broken, seen.append])(event)
    assert seen == [event, event]
    assert [record.name for record in caplog.records] == ["meshkit", "meshkit"]
    assert "a hook failed on task.crashed" in caplog.text
    assert "my hook is broken" in caplog.text
