"""What is believed of a published service config, in time that the test counts."""

from __future__ import annotations

import pytest

from meshkit.events import (
    Event,
    ServiceConfigChanged,
    ServiceConfigRefused,
    ServiceConfigWithdrawn,
)
from meshkit.registry.published import Published
from meshkit.registry.store import KeyValue

KEY = "meshkit/default/hello"
HOLD = 20.0
GOOD = b'{"methodConfig": [{"name": [{}], "timeout": "1s"}]}'
OTHER = b'{"methodConfig": [{"name": [{}], "timeout": "2s"}]}'
BAD = b'{"methodConfig": [{"name": [{}], "timeout": 1}]}'


class Bench:
    def __init__(self) -> None:
        self.events: list[Event] = []
        self.published = Published("hello", KEY, hold=HOLD, emit=self.events.append)

    @property
    def timeout(self) -> float | None:
        config = self.published.config
        return None if config is None else config.for_method("/a/b").timeout

    def put(self, value: bytes) -> None:
        self.published.apply(KeyValue(KEY, value))

    def delete(self) -> None:
        self.published.apply(KeyValue(KEY, None))

    def relist(self, value: bytes | None, now: float, **how) -> None:
        found = None if value is None else KeyValue(KEY, value)
        self.published.relist(found, now, **{"alone": False, **how})

    def told(self) -> list[type[Event]]:
        kinds = [type(event) for event in self.events]
        self.events.clear()
        return kinds


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_what_is_put_holds_until_it_is_deleted(bench: Bench) -> None:
    bench.relist(None, 0)
    assert bench.timeout is None
    bench.put(GOOD)
    bench.put(GOOD)
    assert bench.events == [ServiceConfigChanged("hello", GOOD.decode(), ())]
    bench.put(OTHER)
    assert bench.timeout == 2
    bench.delete()
    bench.delete()
    assert bench.timeout is None
    assert bench.told() == [ServiceConfigChanged, ServiceConfigChanged, ServiceConfigWithdrawn]


def test_the_last_good_one_holds_and_a_bad_one_is_told_once(bench: Bench) -> None:
    bench.put(GOOD)
    bench.put(BAD)
    bench.relist(BAD, 10)
    assert bench.timeout == 1
    [_, refused] = bench.events
    assert refused == ServiceConfigRefused(
        "hello",
        KEY,
        'methodConfig[0].timeout: must be a duration, such as "1.5s", got 1',
    )
    bench.put(GOOD)
    bench.put(BAD)
    assert bench.told().count(ServiceConfigRefused) == 2
    bench.put(OTHER)
    assert bench.timeout == 2


def test_without_a_good_one_a_bad_one_is_none(bench: Bench) -> None:
    bench.relist(BAD, 0)
    assert bench.timeout is None
    assert bench.published.confirmed() is None
    assert bench.told() == [ServiceConfigRefused]
    bench.delete()
    assert bench.told() == []


@pytest.mark.parametrize("value", [b"\xff", b"x" * 70_000, b"[]", b"[" * 50_000])
def test_any_bytes_are_refused_with_a_reason(bench: Bench, value: bytes) -> None:
    bench.put(value)
    assert bench.told() == [ServiceConfigRefused]


def test_fields_that_nobody_knows_are_told_and_ignored(bench: Bench) -> None:
    bench.put(b'{"fresh": 1, "methodConfig": [{"name": [{}], "timeout": "1s", "more": {}}]}')
    assert bench.timeout == 1
    [changed] = bench.events
    assert isinstance(changed, ServiceConfigChanged)
    assert changed.unknown == ("fresh", "methodConfig[0].more")


def test_one_that_is_missing_from_a_list_is_held_for_a_while(bench: Bench) -> None:
    bench.put(GOOD)
    assert bench.published.next_expiry(alone=False) is None
    bench.relist(None, 100)
    assert bench.timeout == 1
    assert bench.published.next_expiry(alone=False) == 100 + HOLD
    assert bench.published.next_expiry(alone=True) is None
    bench.relist(None, 100 + HOLD - 0.1)
    assert bench.timeout == 1
    bench.relist(None, 100 + HOLD)
    assert bench.timeout is None
    assert bench.told() == [ServiceConfigChanged, ServiceConfigWithdrawn]


def test_one_that_comes_back_was_never_away(bench: Bench) -> None:
    bench.put(GOOD)
    bench.relist(None, 100)
    bench.relist(GOOD, 110)
    bench.relist(None, 120)
    bench.relist(None, 139)
    assert bench.timeout == 1
    assert bench.told() == [ServiceConfigChanged]


def test_the_time_of_an_outage_does_not_count(bench: Bench) -> None:
    bench.put(GOOD)
    bench.relist(None, 100)
    bench.relist(None, 1000, unheard=890)
    assert bench.timeout == 1
    bench.relist(None, 1011)
    assert bench.timeout is None


def test_in_a_list_of_nothing_it_is_not_missed(bench: Bench) -> None:
    bench.put(GOOD)
    for now in (100, 200, 300):
        bench.relist(None, now, alone=True)
    assert bench.timeout == 1
    bench.relist(None, 301)
    assert bench.timeout is None


def test_what_was_recalled_holds_until_the_first_list(bench: Bench) -> None:
    for value, holds in ((GOOD, 1), (OTHER, 2), (BAD, 1), (None, None)):
        other = Bench()
        other.published.recall([KeyValue(KEY, GOOD)], 0)
        assert other.timeout == 1
        assert other.published.confirmed() == {}
        other.relist(value, 1)
        assert other.timeout == holds


def test_what_was_recalled_outlives_a_first_list_of_nothing(bench: Bench) -> None:
    bench.published.recall([KeyValue(KEY, GOOD)], 0)
    bench.relist(None, 1, alone=True)
    bench.relist(None, 20)
    assert bench.timeout == 1
    bench.relist(None, 21)
    assert bench.timeout is None


def test_only_what_is_confirmed_is_kept_in_one_line(bench: Bench) -> None:
    value = b'{\r\n "methodConfig":\n []\n}'
    assert bench.published.confirmed() is None
    bench.put(value)
    assert bench.published.confirmed() == {KEY: value}
    key, line = bench.published.encode(value)
    assert key == KEY
    assert line.splitlines() == [line]
    bench.put(BAD)
    assert bench.published.confirmed() == {KEY: value}, "the last good one"
    bench.relist(None, 1)
    assert bench.published.confirmed() == {}, "neither kept nor forgotten"
    bench.delete()
    assert bench.published.confirmed() is None
