"""What only the store in memory does: its clock, its faults, and several threads."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator
from functools import partial

import anyio
import anyio.to_thread
import pytest

from meshkit.errors import RegistryAuthError, RegistryUnavailable
from meshkit.registry.memory import MemoryStore, contents
from meshkit.registry.store import Batch, Compacted, KeyValue, LeaseGone
from tests.registry.stores import Clock

pytestmark = pytest.mark.anyio


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> MemoryStore:
    return MemoryStore("memory://test", clock=clock)


async def following(batches: AsyncIterator[Batch]) -> Batch:
    with anyio.fail_after(10.0):
        return await anext(batches)


async def following_one(store: MemoryStore, after: int) -> None:
    """Follow `store` until the first change after a fault, and nothing before its end."""
    assert (await first_change(store, after=after)).changes == (KeyValue("a", b"x"),)


async def first_change(store: MemoryStore, *, after: int) -> Batch:
    async with store.watch("", after=after) as batches:
        return await following(batches)


# -- the clock


async def test_a_lease_lives_for_its_ttl_from_the_last_renewal(
    store: MemoryStore, clock: Clock
) -> None:
    grant = await store.grant(15.0)
    await store.put({"a": b"x"}, lease=grant.lease)
    clock.now += 14.5
    assert await store.renew(grant.lease) == 15.0
    clock.now += 14.5
    assert len((await store.list("")).items) == 1
    clock.now += 0.5
    assert (await store.list("")).items == ()
    assert await store.renew(grant.lease) == 0.0
    with pytest.raises(LeaseGone):
        await store.put({"a": b"x"}, lease=grant.lease)


async def test_each_expired_lease_is_one_revision(store: MemoryStore, clock: Clock) -> None:
    for n in range(2):
        grant = await store.grant(15.0)
        after = await store.put({f"{n}/a": b"", f"{n}/b": b""}, lease=grant.lease)
    clock.now += 15.0
    async with store.watch("", after=after) as batches:
        expired = [await following(batches) for _ in range(2)]
    assert [batch.revision for batch in expired] == [after + 1, after + 2]
    assert [len(batch.changes) for batch in expired] == [2, 2]


async def test_tick_wakes_watches_when_the_clock_was_moved_by_hand(
    store: MemoryStore, clock: Clock
) -> None:
    grant = await store.grant(3600.0)
    after = await store.put({"a": b"x"}, lease=grant.lease)
    seen: list[Batch] = []

    async def follow() -> None:
        seen.append(await first_change(store, after=after))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(follow)
        await anyio.wait_all_tasks_blocked()
        clock.now += 3600.0
        store.tick()
    assert seen == [Batch(after + 1, (KeyValue("a", None),))]


async def test_a_watch_sees_an_expiry_by_itself_on_a_real_clock() -> None:
    store = MemoryStore()
    await store.grant(3600.0)
    after = (await store.list("")).revision
    async with store.watch("", after=after) as batches, anyio.create_task_group() as tasks:

        async def announce() -> None:  # while the watch waits for the expiry of the long lease
            await anyio.wait_all_tasks_blocked()
            await store.put({"a": b"x"}, lease=(await store.grant(0.05)).lease)

        tasks.start_soon(announce)
        assert (await following(batches)).changes[0].value == b"x"
        assert (await following(batches)).changes == (KeyValue("a", None),)


# -- faults


async def test_a_store_that_fails_does_so_in_every_operation(store: MemoryStore) -> None:
    lease = (await store.grant(15.0)).lease
    revision = await store.put({"a": b"x"}, lease=lease)
    store.cut()
    for operation in (
        store.grant(1.0),
        store.renew(lease),
        store.revoke(lease),
        store.put({"a": b"y"}, lease=0),
        store.delete(["a"]),
        store.list(""),
        first_change(store, after=revision),
    ):
        with pytest.raises(RegistryUnavailable, match="told to fail"):
            await operation
    store.heal()
    assert (await store.list("")).items == (KeyValue("a", b"x", lease),)


async def test_a_store_fails_as_it_is_told(store: MemoryStore) -> None:
    store.cut(lambda: RegistryAuthError("no rights"))
    with pytest.raises(RegistryAuthError, match="no rights"):
        await store.list("")


async def test_a_lease_expires_during_an_outage(store: MemoryStore, clock: Clock) -> None:
    lease = (await store.grant(15.0)).lease
    await store.put({"a": b"x"}, lease=lease)
    store.cut()
    clock.now += 15.0
    store.tick()
    store.heal()
    assert await store.renew(lease) == 0.0


@pytest.mark.parametrize("healed", [False, True])
async def test_a_fault_breaks_watches_even_if_it_was_short(
    store: MemoryStore, healed: bool
) -> None:
    after = (await store.list("")).revision

    async def follow() -> None:
        with pytest.raises(RegistryUnavailable):
            await first_change(store, after=after)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(follow)
        await anyio.wait_all_tasks_blocked()
        store.cut()
        if healed:
            store.heal()


async def test_a_wiped_store_begins_again(store: MemoryStore) -> None:
    lease = (await store.grant(15.0)).lease
    for n in range(3):
        after = await store.put({"a": b"%d" % n}, lease=lease)
    async with store.watch("", after=after) as batches:
        store.wipe()
        with pytest.raises(RegistryUnavailable, match="the watch broke"):
            await following(batches)

    listing = await store.list("")
    assert (listing.revision, listing.items) == (1, ())
    assert await store.renew(lease) == 0.0
    assert (await store.grant(15.0)).lease != lease
    with pytest.raises(Compacted):
        await first_change(store, after=after)


async def test_a_token_that_expired_is_refused_until_healed(store: MemoryStore) -> None:
    store.expire_token()
    with pytest.raises(RegistryAuthError, match="invalid auth token"):
        await store.list("")
    store.heal()
    await store.list("")


async def test_a_paused_store_does_nothing_until_healed(store: MemoryStore) -> None:
    async with anyio.create_task_group() as tasks:
        after = (await store.list("")).revision
        store.pause()
        tasks.start_soon(partial(store.put, {"a": b"x"}, lease=0))
        tasks.start_soon(following_one, store, after)
        with anyio.move_on_after(0.05) as given_up:
            await store.put({"b": b"x"}, lease=0)
        assert given_up.cancelled_caught
        assert not store.entries()
        store.heal()
    assert list(store.entries()) == ["a"], "whoever gave up is not served"


async def test_a_muted_store_does_all_and_says_nothing(store: MemoryStore) -> None:
    after = (await store.list("")).revision
    store.mute()
    with anyio.move_on_after(0.05) as given_up:
        await store.put({"a": b"x"}, lease=0)
    assert given_up.cancelled_caught
    assert list(store.entries()) == ["a"]
    with anyio.move_on_after(0.05) as silent:
        await first_change(store, after=after)
    assert silent.cancelled_caught
    store.heal()
    assert (await first_change(store, after=after)).changes[0].key == "a"


async def test_what_was_muted_is_never_answered_after_a_cut(store: MemoryStore) -> None:
    store.mute()

    async def put() -> None:
        with pytest.raises(RegistryUnavailable, match="told to fail"):
            await store.put({"a": b"x"}, lease=0)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(put)
        await anyio.wait_all_tasks_blocked()
        store.cut()
    assert list(store.entries()) == ["a"]


async def test_a_delay_is_met_by_operations_and_watches(store: MemoryStore) -> None:
    after = (await store.list("")).revision
    store.delay(0.05)
    began = anyio.current_time()
    await store.put({"a": b"x"}, lease=0)
    assert anyio.current_time() - began >= 0.05
    await first_change(store, after=after)
    assert anyio.current_time() - began >= 0.1


async def test_a_restored_store_is_as_it_was_at_the_backup(
    store: MemoryStore, clock: Clock
) -> None:
    kept, revoked = (await store.grant(15.0)).lease, (await store.grant(15.0)).lease
    then = await store.put({"a": b"1", "b": b"1"}, lease=kept)
    await store.put({"c": b"1"}, lease=revoked)
    backup = store.backup()
    await store.revoke(revoked)
    later = (await store.grant(15.0)).lease
    after = await store.put({"d": b"1"}, lease=later)
    clock.now += 10.0
    async with store.watch("", after=after) as batches:
        store.restore(backup)
        with pytest.raises(RegistryUnavailable, match="the watch broke"):
            await following(batches)

    assert list(store.entries()) == ["a", "b", "c"]
    assert (await store.list("")).revision == then + 1 < after
    assert await store.renew(later) == 0.0
    clock.now += 14.0  # a lease has its full time again
    store.tick()
    assert list(store.entries()) == ["a", "b", "c"]
    clock.now += 1.0
    assert not store.entries()
    store.restore(backup)  # it can be used again
    assert list(store.entries()) == ["a", "b", "c"]


@pytest.mark.parametrize("fault", ["cut", "pause", "mute"])
async def test_what_is_done_by_hand_is_done_during_any_fault(
    store: MemoryStore, fault: str
) -> None:
    lease = (await store.grant(15.0)).lease
    after = await store.put({"a": b"x", "b": b"x", "c": b"x"}, lease=lease)
    getattr(store, fault)()
    store.overwrite("a", b"mine")
    store.erase("b", "unknown")
    assert store.entries() == {"a": KeyValue("a", b"mine"), "c": KeyValue("c", b"x", lease)}
    store.end_lease(lease)
    assert list(store.entries()) == ["a"]
    store.heal()
    async with store.watch("", after=after) as batches:
        seen = [(await following(batches)).changes for _ in range(3)]
    assert seen == [
        (KeyValue("a", b"mine"),), (KeyValue("b", None),), (KeyValue("c", None),)
    ]  # fmt: skip
    store.compact()
    with pytest.raises(Compacted):
        await first_change(store, after=after)


async def test_the_history_is_bounded(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "_HISTORY", 3)
    revisions = [await store.put({"a": b"%d" % n}, lease=0) for n in range(5)]
    assert (await first_change(store, after=revisions[1])).revision == revisions[2]
    with pytest.raises(Compacted):
        await first_change(store, after=revisions[0])


# -- shared by name, loops and threads


async def test_a_name_means_one_store_while_somebody_holds_it() -> None:
    first = MemoryStore.shared("memory://shared")
    assert MemoryStore.shared("memory://shared") is first
    assert MemoryStore.shared("memory://other") is not first
    await first.put({"a": b"x"}, lease=0)
    del first
    gc.collect()
    assert (await MemoryStore.shared("memory://shared").list("")).items == ()


async def test_loops_in_two_threads_wake_each_other() -> None:
    store = MemoryStore.shared("memory://threads")
    rounds = 50

    async def play(side: str, opponent: str) -> None:
        after = 1
        async with store.watch(f"{opponent}/", after=after) as batches:
            for n in range(rounds):
                await store.put({f"{side}/ball": b"%d" % n}, lease=0)
                assert (await following(batches)).changes[0].value == b"%d" % n

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anyio.to_thread.run_sync, asyncio.run, play("there", "here"))
        tasks.start_soon(play, "here", "there")
    assert (await store.list("")).revision == 1 + 2 * rounds


async def test_a_loop_that_was_closed_during_a_watch_troubles_no_writer() -> None:
    store = MemoryStore()
    held: list[object] = []

    def abandon() -> None:
        loop = asyncio.new_event_loop()
        watch = store.watch("", after=1)
        batches = loop.run_until_complete(watch.__aenter__())
        task = loop.create_task(anext(batches))
        loop.run_until_complete(asyncio.sleep(0))
        loop.run_until_complete(asyncio.sleep(0))
        held.extend((loop, watch, task))
        loop.close()

    thread = threading.Thread(target=abandon)
    thread.start()
    thread.join()
    assert len(store._bells) == 1
    assert await store.put({"a": b"x"}, lease=0) == 2
    held[2]._log_destroy_pending = False  # the loop that should have ended it is gone
