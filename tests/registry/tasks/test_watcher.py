import itertools

import anyio
import pytest

from meshkit.endpoint import Delta
from meshkit.errors import ConfigError, RegistryAuthError, RegistryUnavailable
from meshkit.events import (
    EndpointsChanged,
    EntrySkipped,
    RegistryConnected,
    RegistryDisconnected,
    RegistryRefused,
)
from meshkit.registry.outage import loop_time
from meshkit.registry.store import Compacted
from tests.registry.tasks.fakes import Bench, endpoint, key, names

pytestmark = pytest.mark.anyio

HOLD = 20.0


async def test_lists_then_follows(bench: Bench):
    await bench.write("a")
    with bench.registry.watch("hello") as watch:
        assert watch.latest.value.endpoints is None
        assert watch.age() is None
        await anyio.sleep(0.1)
        assert (names(watch), watch.latest.value.trouble) == (["a"], None)
        await bench.write("b")
        await anyio.sleep(0.1)
        assert names(watch) == ["a", "b"]
        assert watch.age() == pytest.approx(0.1)
        assert (watch.service, watch.registry) == ("hello", "fake://registry")
    assert bench.events == [
        EndpointsChanged("hello", 2, 1, Delta(added=(endpoint("a"),))),
        EndpointsChanged("hello", 3, 2, Delta(added=(endpoint("b"),))),
    ]


async def test_an_empty_service_is_an_answer(bench: Bench):
    with bench.registry.watch("hello") as watch:
        await anyio.sleep(0.1)
        assert (names(watch), watch.latest.value.trouble) == ([], None)
    assert bench.events == []


async def test_one_change_is_one_wake_up(bench: Bench):
    seen = []

    async def read(watch):
        async for resolution in watch.latest.values():
            seen.append(resolution)

    with bench.registry.watch("hello") as watch:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read, watch)
            await anyio.sleep(0.1)
            await bench.write("a", "b")
            await anyio.sleep(0.1)
            await bench.write("a", "b")  # equal values: no news
            await anyio.sleep(120)  # several re-lists: no news
            tasks.cancel_scope.cancel()
    sizes = [None if r.endpoints is None else len(r.endpoints) for r in seen]
    assert sizes == [None, 0, 2]


async def test_without_a_first_answer_the_cause_is_known_at_once(bench: Bench):
    bench.store.go_down()
    with bench.registry.watch("hello") as watch:
        await anyio.sleep(0.01)
        assert watch.latest.value.endpoints is None
        assert watch.latest.value.trouble == "connect refused"
        bench.store.come_back()
        await bench.write("a")
        await anyio.sleep(1.1)
        assert (names(watch), watch.latest.value.trouble) == (["a"], None)


async def test_a_refusal_is_told_from_an_outage(bench: Bench):
    def told() -> tuple[str | None, bool]:
        return watch.latest.value.trouble, watch.latest.value.refused

    bench.store.faults["watch"] = lambda: RegistryAuthError("permission denied")
    with bench.registry.watch("hello") as watch:
        await anyio.sleep(5)
        assert told() == ("permission denied", True)
        bench.store.go_down()
        await anyio.sleep(2)
        assert told() == ("connect refused", False)
        bench.store.come_back()
        bench.store.faults["list"] = lambda: RegistryAuthError("no such user")
        await anyio.sleep(2)
        assert told() == ("no such user", True)
        bench.store.come_back()
        await anyio.sleep(2)
        assert told() == (None, False)


async def test_a_hung_list_is_trouble(bench: Bench):
    bench.store.faults["list"] = "hang"
    with bench.registry.watch("hello") as watch:
        await anyio.sleep(10.1)
        assert watch.latest.value.trouble == "no answer within 10 s"


async def test_a_broken_stream_is_replaced_and_nothing_is_missed(bench: Bench):
    await bench.write("a")
    with bench.registry.watch("hello") as watch:
        await anyio.sleep(5)
        bench.store.break_watches()
        await anyio.sleep(0.02)
        await bench.write("b")
        await anyio.sleep(1.1)
        assert (names(watch), watch.latest.value.trouble) == (["a", "b"], None)
        await bench.write("c")
        await anyio.sleep(0.1)
        assert names(watch) == ["a", "b", "c"]


async def test_history_that_is_gone_is_no_outage(bench: Bench):
    with bench.registry.watch("hello") as watch:
        bench.store.faults["watch"] = lambda: Compacted("compacted at 7")
        await anyio.sleep(5)
        await bench.write("a")
        await anyio.sleep(1.1)
        assert (names(watch), watch.latest.value.trouble) == (["a"], None)
        assert len(bench.store.times("list")) < 25, "with waits in between"
    assert not bench.events.of(RegistryDisconnected)


async def test_a_refused_watch_is_trouble_but_lists_are_news(bench: Bench):
    bench.store.faults["watch"] = lambda: RegistryUnavailable("watch refused")
    with bench.registry.watch("hello") as watch:
        await anyio.sleep(5)
        await bench.write("a")
        await anyio.sleep(1.1)
        assert (names(watch), watch.latest.value.trouble) == (["a"], "watch refused")
        assert len(bench.store.times("list")) < 30
        bench.store.come_back()
        await anyio.sleep(1.1)
        assert watch.latest.value.trouble is None
    assert len(bench.events.of(RegistryDisconnected)) == 1
    assert len(bench.events.of(RegistryConnected)) == 1


async def test_a_stream_that_ends_is_a_broken_one(bench: Bench):
    bench.store.faults["stream"] = "ends"
    with bench.registry.watch("hello") as watch:
        await anyio.sleep(5)
        assert watch.latest.value.trouble == "the watch ended by itself"
        assert len(bench.store.times("list")) < 30


async def test_a_silent_stream_heals_with_the_next_list(bench: Bench):
    bench.store.faults["stream"] = "silent"
    with bench.registry.watch("hello") as watch:
        await anyio.sleep(1)
        await bench.write("a")
        await anyio.sleep(37)
        assert names(watch) == ["a"]
        assert watch.latest.value.trouble is None


async def test_lists_come_at_a_slow_jittered_pace(bench: Bench):
    with bench.registry.watch("hello") as watch:
        await anyio.sleep(3600)
        assert watch.age() <= 36
    gaps = [b - a for a, b in itertools.pairwise(bench.store.times("list"))]
    assert all(24 <= gap <= 36 for gap in gaps)
    assert len(set(gaps)) > 50


@pytest.mark.parametrize(
    ("error", "refusals"),
    [(RegistryAuthError("permission denied"), 1), (ConfigError("no such file"), 0)],
)
async def test_a_refusal_is_tried_again(bench: Bench, error, refusals):
    with bench.registry.watch("hello") as watch:
        await anyio.sleep(1)
        bench.store.go_down(lambda: error)
        await anyio.sleep(600)
        assert watch.latest.value.trouble == str(error)
        bench.store.come_back()
        await anyio.sleep(1.1)
        assert watch.latest.value.trouble is None
    assert len(bench.events.of(RegistryDisconnected)) == 1
    assert len(bench.events.of(RegistryRefused)) == refusals


async def test_down_for_an_hour_costs_freshness_only(bench: Bench):
    await bench.write("a", "b")
    with bench.registry.watch("hello") as watch:
        await anyio.sleep(1)
        known = watch.latest.value.endpoints
        bench.store.go_down()
        went = loop_time()
        await anyio.sleep(3600)
        assert watch.latest.value.endpoints is known
        assert watch.latest.value.trouble == "connect refused"
        assert watch.age() == pytest.approx(3601, abs=1)
        tries = [when for when in bench.store.times("list") if when >= went]
        assert 3600 < len(tries) < 3600 * 3
        assert max(b - a for a, b in itertools.pairwise(tries)) <= 1.0
        bench.store.come_back()
        await anyio.sleep(1.1)
        assert watch.latest.value.endpoints is known
        assert watch.age() <= 1.1
    (connected,) = bench.events.of(RegistryConnected)
    assert connected.outage == pytest.approx(loop_time() - went, abs=1.2)
    assert len(bench.events.of(RegistryDisconnected)) == 1


async def test_the_first_retry_is_quick(bench: Bench):
    with bench.registry.watch("hello") as watch:
        await anyio.sleep(5)
        bench.store.break_watches()
        await anyio.sleep(0.01 + 0.1 + 0.2)
        assert watch.latest.value.trouble is None


async def test_the_first_retry_is_quick_again_after_good_times(bench: Bench):
    with bench.registry.watch("hello") as watch:
        for _ in range(20):
            await anyio.sleep(5)
            bench.store.break_watches()
            await anyio.sleep(0.01 + 0.1 + 0.2)
            assert watch.latest.value.trouble is None


async def test_trouble_lasts_until_a_watch_is_open(bench: Bench):
    with bench.registry.watch("hello") as watch:
        await anyio.sleep(1)
        bench.store.go_down()
        await anyio.sleep(10)
        await bench.write("a")
        bench.store.faults = {"watch": "hang"}
        await anyio.sleep(2)
        assert (names(watch), watch.latest.value.trouble) == (["a"], "connect refused")


async def test_a_slow_list_is_as_old_as_its_request(bench: Bench):
    async def slow(prefix, *, also):
        await anyio.sleep(3)
        return await bench.store.inner.list(prefix)

    bench.store.list = slow
    with bench.registry.watch("hello") as watch:
        await anyio.sleep(4)
        assert watch.age() == pytest.approx(4)


async def test_what_a_relist_lacks_is_held_and_goes_in_time(bench: Bench):
    await bench.write("a", "b")
    with bench.registry.watch("hello") as watch:
        await anyio.sleep(1)
        await bench.erase_unseen("b")
        await anyio.sleep(1)
        assert names(watch) == ["a", "b"]
        assert bench.registry.status().watches["hello"].unconfirmed == 1
        await anyio.sleep(HOLD - 2)
        assert names(watch) == ["a", "b"]
        await anyio.sleep(2.1)
        assert names(watch) == ["a"]
        assert bench.registry.status().watches["hello"].unconfirmed == 0
        assert len(bench.store.times("list")) < 10


async def test_what_a_deletion_did_not_end_at_once_goes_in_time_without_any_news(bench: Bench):
    await bench.write("a")
    with bench.registry.watch("hello") as watch:
        await anyio.sleep(1)
        await bench.erase("a")
        await anyio.sleep(HOLD - 0.1)
        assert names(watch) == ["a"], "the last one is held"
        await anyio.sleep(0.3)
        assert names(watch) == []


async def test_a_wiped_registry_does_not_empty_the_set(bench: Bench):
    await bench.write("a", "b")
    with bench.registry.watch("hello") as watch:
        await anyio.sleep(1)
        known = watch.latest.value.endpoints
        bench.store.inner.wipe()
        await anyio.sleep(600)
        assert watch.latest.value.endpoints is known
        await bench.write("a")
        await anyio.sleep(1)
        assert names(watch) == ["a"]


async def test_entries_that_are_no_endpoints_are_told_once(bench: Bench):
    await bench.write("a")
    await bench.store.inner.put({key("bad"): b"?"}, lease=0)
    with bench.registry.watch("hello") as watch:
        await anyio.sleep(600)
        assert names(watch) == ["a"]
    (skipped,) = bench.events.of(EntrySkipped)
    assert (skipped.service, skipped.key) == ("hello", key("bad"))


async def test_services_with_a_common_beginning_are_strangers(bench: Bench):
    with bench.registry.watch("hello") as watch:
        await bench.write("a", service="hello2")
        await anyio.sleep(1)
        assert names(watch) == []
