"""A watch that starts while the registry is away knows what an earlier one knew."""

import anyio
import pytest

from meshkit.events import CacheUnusable, EndpointsChanged, EndpointsFromCache
from meshkit.registry.cache import Cache
from meshkit.registry.layouts import make_layout
from meshkit.registry.outage import loop_time
from tests.registry.tasks.fakes import Bench, endpoint, names

pytestmark = pytest.mark.anyio

LATER = 6.0  # seconds; changes are kept after 5


@pytest.fixture(autouse=True)
def inline(monkeypatch):
    """Virtual time does not wait for threads."""

    async def run_sync(function, *args, abandon_on_cancel):
        await anyio.lowlevel.checkpoint()
        return function(*args)

    monkeypatch.setattr("anyio.to_thread.run_sync", run_sync)


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache", scope="fake", wall=loop_time)


async def known_before(bench: Bench, cache: Cache, *who: str) -> None:
    """An earlier process has watched."""
    await bench.write(*who)
    registry = bench.make(cache=cache)
    with registry.watch("hello"):
        await anyio.sleep(0.1)
    bench.store.closed -= 1
    await registry.aclose()


async def test_the_last_known_set_is_used_until_the_registry_answers(bench: Bench, cache: Cache):
    await known_before(bench, cache, "a", "b")
    bench.store.go_down()
    await anyio.sleep(7200)
    registry = bench.make(cache=cache)
    with registry.watch("hello") as watch:
        await anyio.sleep(60)
        assert names(watch) == ["a", "b"]
        assert watch.latest.value.trouble == "connect refused"
        assert watch.latest.value.from_cache
        assert watch.age() == pytest.approx(7260, abs=1)
        status = registry.status().watches["hello"]
        assert (status.total, status.unconfirmed, status.from_cache) == (2, 2, True)
        [told] = bench.events.of(EndpointsFromCache)
        assert (told.service, told.total, told.age) == ("hello", 2, pytest.approx(7200, abs=1))

        await bench.erase("a")
        await bench.write("c")
        bench.store.come_back()
        await anyio.sleep(2)
        assert names(watch) == ["b", "c"], "what is missing from the first list is gone"
        assert not watch.latest.value.from_cache
        assert watch.latest.value.trouble is None
        assert watch.age() < 3
        [changed] = bench.events.of(EndpointsChanged)[-1:]
        assert [e.id for e in changed.delta.added] == ["c"]
        assert [e.id for e in changed.delta.removed] == ["a"]
    await registry.aclose()


async def test_a_first_list_that_is_empty_is_not_believed(bench: Bench, cache: Cache):
    await known_before(bench, cache, "a", "b")
    await bench.erase("a", "b")
    bench.store.go_down()
    registry = bench.make(cache=cache)
    with registry.watch("hello") as watch:
        await anyio.sleep(60)
        bench.store.come_back()
        await anyio.sleep(3600)
        assert names(watch) == ["a", "b"]
        assert not watch.latest.value.from_cache
        assert registry.status().watches["hello"].unconfirmed == 2
        await anyio.sleep(100)
        await bench.write("c")
        await anyio.sleep(0.1)
        assert "c" in names(watch)
        await anyio.sleep(60)
        assert names(watch) == ["c"]
    await registry.aclose()


async def test_a_registry_that_answers_is_asked_alone(bench: Bench, cache: Cache):
    await known_before(bench, cache, "a")
    await bench.erase("a")
    registry = bench.make(cache=cache)
    with registry.watch("hello") as watch:
        await anyio.sleep(1)
        assert names(watch) == []
        bench.store.go_down()
        await anyio.sleep(60)
        assert names(watch) == []
        bench.store.come_back()
        assert cache.load("meshkit/default/hello/").items, "nothing is not kept over something"
    assert not bench.events.of(EndpointsFromCache)
    await registry.aclose()
    assert cache.load("meshkit/default/hello/").items


async def test_without_a_cache_or_a_file_nothing_is_known(bench: Bench, cache: Cache):
    bench.store.go_down()
    other = bench.make(cache=cache)
    with bench.registry.watch("hello") as without, other.watch("hello") as empty:
        await anyio.sleep(60)
        assert names(without) is names(empty) is None
        assert not without.latest.value.from_cache
        assert without.age() is empty.age() is None
    assert not bench.events.of(EndpointsFromCache, CacheUnusable)
    bench.store.come_back()
    await other.aclose()


async def test_a_file_that_cannot_be_used_is_told_once(bench: Bench, cache: Cache):
    await known_before(bench, cache, "a")
    cache.path("meshkit/default/hello/").write_bytes(b"?")
    bench.store.go_down()
    registry = bench.make(cache=cache)
    with registry.watch("hello") as watch:
        await anyio.sleep(60)
        assert names(watch) is None
        [told] = bench.events.of(CacheUnusable)
        assert "damaged" in told.reason
        bench.store.come_back()
        await anyio.sleep(60)
        assert names(watch) == ["a"]
    assert len(cache.load("meshkit/default/hello/").items) == 1, "and is replaced"
    await registry.aclose()


async def test_values_that_are_no_endpoints_are_as_if_there_was_no_file(bench: Bench, cache: Cache):
    cache.save("meshkit/default/hello/", {"meshkit/default/hello/x": b"?"})
    bench.store.go_down()
    registry = bench.make(cache=cache)
    with registry.watch("hello") as watch:
        await anyio.sleep(60)
        assert names(watch) is None
    bench.store.come_back()
    await registry.aclose()


async def test_changes_are_collected_and_confirmations_noted(bench: Bench, cache: Cache):
    saved = []
    save, cache_save = cache.save, lambda p, entries: (saved.append(len(entries)), save(p, entries))
    object.__setattr__(cache, "save", cache_save)
    registry = bench.make(cache=cache)
    with registry.watch("hello"):
        await anyio.sleep(1)
        for n in range(100):
            await bench.write(f"e{n}")
        await anyio.sleep(LATER)
        assert saved == [100]
        await anyio.sleep(3600)
        assert saved == [100]
        assert cache.load("meshkit/default/hello/").age < 60, "a list confirmed it"
        cache.path("meshkit/default/hello/").unlink()
        await anyio.sleep(60)
        assert saved == [100, 100]
        await bench.erase_unseen("e0")
        await anyio.sleep(LATER)
        assert saved == [100, 100, 99], "what is held is not confirmed"
    await registry.aclose()


async def test_what_cannot_be_written_is_told_once_and_harms_nobody(bench: Bench, tmp_path):
    (tmp_path / "file").touch()
    registry = bench.make(cache=Cache(tmp_path / "file", scope="fake"))
    with registry.watch("hello") as watch:
        for name in "abc":
            await bench.write(name)
            await anyio.sleep(60)
        assert names(watch) == ["a", "b", "c"]
    [told] = bench.events.of(CacheUnusable)
    assert str(tmp_path) in told.reason
    await registry.aclose()


async def test_each_layout_that_is_read_is_kept(bench: Bench, cache: Cache):
    kratos = make_layout("kratos")
    await bench.store.inner.put(dict([kratos.encode("default", endpoint("k"))]), lease=0)
    await bench.write("a")
    registry = bench.make(cache=cache, read=[kratos])
    with registry.watch("hello"):
        await anyio.sleep(0.1)
    await registry.aclose()
    bench.store.go_down()
    registry = bench.make(cache=cache, read=[kratos])
    with registry.watch("hello") as watch:
        await anyio.sleep(60)
        assert names(watch) == ["a", "k"]
        layouts = registry.status().watches["hello"].layouts
        assert layouts == {"a": "meshkit", "k": "kratos"}
    bench.store.come_back()
    await registry.aclose()
