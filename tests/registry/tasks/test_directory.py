"""The names of all services: kept current, and not given up lightly."""

from __future__ import annotations

import anyio
import pytest

from meshkit.errors import MeshClosedError
from meshkit.events import RegistryConnected, RegistryDisconnected
from meshkit.registry.static import StaticRegistry
from meshkit.registry.store import Compacted
from tests.registry.tasks.fakes import Bench

pytestmark = pytest.mark.anyio

HOLD = 20.0


async def test_names_come_and_go_a_while_after_their_endpoints(bench: Bench):
    names = bench.registry.watch_services()
    assert names.value is None
    await anyio.sleep(0.1)
    assert names.value == frozenset()
    await bench.write("a", "b")
    await bench.write("c", service="other")
    await anyio.sleep(0.1)
    assert names.value == {"hello", "other"}
    await bench.erase("a")
    await bench.erase("c", service="other")
    await anyio.sleep(HOLD - 1)
    assert names.value == {"hello", "other"}
    await anyio.sleep(2)
    assert names.value == {"hello"}


async def test_a_service_that_returns_in_time_was_never_gone(bench: Bench):
    names = bench.registry.watch_services()
    await bench.write("a")
    await anyio.sleep(0.1)
    await bench.erase("a")
    await anyio.sleep(HOLD / 2)
    await bench.write("b")
    await anyio.sleep(HOLD * 2)
    assert names.value == {"hello"}


async def test_service_configs_are_no_services(bench: Bench):
    names = bench.registry.watch_services()
    await bench.registry.configs.publish("configured", {})
    await anyio.sleep(0.1)
    assert names.value == frozenset()


async def test_an_outage_changes_nothing_and_what_was_missed_is_found(bench: Bench):
    names = bench.registry.watch_services()
    await bench.write("a")
    await anyio.sleep(0.1)
    bench.store.go_down()
    await anyio.sleep(0.05)
    await bench.write("c", service="other")
    await anyio.sleep(5)
    assert names.value == {"hello"}
    bench.store.come_back()
    await anyio.sleep(2)
    assert names.value == {"hello", "other"}
    assert len(bench.events.of(RegistryDisconnected, RegistryConnected)) == 2


async def test_a_revision_that_is_history_is_no_trouble(bench: Bench):
    bench.store.faults["watch"] = lambda: Compacted("history")
    names = bench.registry.watch_services()
    await bench.write("a")
    await anyio.sleep(3)
    assert names.value == {"hello"}
    assert bench.events.of(RegistryDisconnected) == []


async def test_a_registry_that_was_wiped_takes_nothing_at_once(bench: Bench):
    names = bench.registry.watch_services()
    await bench.write("a")
    await anyio.sleep(0.1)
    bench.store.inner.wipe()
    await anyio.sleep(HOLD - 5)
    assert names.value == {"hello"}
    await anyio.sleep(10)
    assert names.value == frozenset()


async def test_a_watch_that_ends_by_itself_is_trouble(bench: Bench):
    bench.store.faults["stream"] = "ends"
    names = bench.registry.watch_services()
    await bench.write("a")
    await anyio.sleep(1)
    await bench.write("b", service="other")
    await anyio.sleep(3)  # lists again and again
    assert names.value == {"hello", "other"}


async def test_a_silent_watch_is_listed_again(bench: Bench):
    bench.store.faults["stream"] = "silent"
    names = bench.registry.watch_services()
    await anyio.sleep(0.1)
    await bench.write("a")
    await anyio.sleep(40)
    assert names.value == {"hello"}


async def test_all_share_one_watch(bench: Bench):
    assert bench.registry.watch_services() is bench.registry.watch_services()
    await anyio.sleep(0.1)
    assert len(bench.store.times("watch")) == 1


async def test_not_after_it_was_closed(bench: Bench):
    await bench.registry.aclose()
    with pytest.raises(MeshClosedError):
        bench.registry.watch_services()


async def test_a_static_registry_has_always_the_same():
    registry = StaticRegistry({"a": ["10.0.0.1:1"]})
    assert registry.watch_services().value == {"a"}
