"""What every store does: the same tests run against each kind that `stores.OPENERS` knows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import anyio
import pytest

from meshkit.registry.store import Batch, Compacted, KeyValue, LeaseGone, Store
from tests.registry.stores import Harness

pytestmark = pytest.mark.anyio

TTL = 15.0
PATIENCE = 10.0  # seconds; far more than anything here takes


async def contents(store: Store, prefix: str) -> dict[str, bytes | None]:
    return {item.key: item.value for item in (await store.list(prefix)).items}


async def take(batches: AsyncIterator[Batch], count: int) -> list[Batch]:
    with anyio.fail_after(PATIENCE):
        return [await anext(batches) for _ in range(count)]


# -- leases


async def test_a_lease_is_granted_renewed_and_revoked(store: Store) -> None:
    grant = await store.grant(TTL)
    assert grant.lease != 0
    assert grant.ttl >= TTL
    assert await store.renew(grant.lease) == pytest.approx(grant.ttl, abs=1.0)

    await store.revoke(grant.lease)
    assert await store.renew(grant.lease) == 0.0


async def test_leases_differ(store: Store, other: Store) -> None:
    leases = [(await s.grant(TTL)).lease for s in (store, other, store)]
    assert len(set(leases)) == 3


async def test_revoking_deletes_the_keys_of_that_lease_in_one_revision(store: Store) -> None:
    ours, theirs = await store.grant(TTL), await store.grant(TTL)
    await store.put({"a/1": b"x", "a/2": b"x"}, lease=ours.lease)
    await store.put({"a/3": b"x"}, lease=theirs.lease)
    before = await store.put({"a/4": b"x"}, lease=0)

    await store.revoke(ours.lease)

    listing = await store.list("a/")
    assert {item.key for item in listing.items} == {"a/3", "a/4"}
    assert listing.revision == before + 1


async def test_revoking_twice_is_fine(store: Store) -> None:
    grant = await store.grant(TTL)
    await store.revoke(grant.lease)
    await store.revoke(grant.lease)


async def test_renewing_an_unknown_lease_says_it_is_gone(store: Store) -> None:
    assert await store.renew(0x7EADBEEF) == 0.0


@pytest.mark.parametrize("known", [True, False])
async def test_a_put_under_a_lease_that_is_gone_writes_nothing(store: Store, known: bool) -> None:
    lease = (await store.grant(TTL)).lease if known else 0x7EADBEEF
    await store.revoke(lease)
    with pytest.raises(LeaseGone):
        await store.put({"a": b"x"}, lease=lease)
    assert await contents(store, "a") == {}


async def test_a_key_moves_to_the_lease_it_was_put_under_last(store: Store) -> None:
    first, second = await store.grant(TTL), await store.grant(TTL)
    await store.put({"a": b"1"}, lease=first.lease)
    await store.put({"a": b"2"}, lease=second.lease)

    await store.revoke(first.lease)
    assert (await store.list("a")).items == (KeyValue("a", b"2", second.lease),)
    await store.revoke(second.lease)
    assert await contents(store, "a") == {}


async def test_a_key_put_without_a_lease_leaves_its_lease(store: Store) -> None:
    grant = await store.grant(TTL)
    await store.put({"a": b"1"}, lease=grant.lease)
    await store.put({"a": b"2"}, lease=0)
    await store.revoke(grant.lease)
    assert (await store.list("a")).items == (KeyValue("a", b"2", 0),)


# -- keys


async def test_a_write_is_listed_with_value_lease_and_revision(store: Store) -> None:
    grant = await store.grant(TTL)
    revision = await store.put({"a/1": b"x", "a/2": b"y"}, lease=grant.lease)
    listing = await store.list("a/")
    assert listing.revision == revision
    assert set(listing.items) == {
        KeyValue("a/1", b"x", grant.lease),
        KeyValue("a/2", b"y", grant.lease),
    }


async def test_each_write_is_one_revision_however_many_keys_it_has(store: Store) -> None:
    first = await store.put({f"a/{n}": b"x" for n in range(50)}, lease=0)
    assert await store.put({"a/0": b"y"}, lease=0) == first + 1
    assert await store.delete(f"a/{n}" for n in range(50)) == first + 2
    assert await contents(store, "a/") == {}


async def test_keys_are_read_with_value_and_lease_and_those_that_are_not_there_are_not(
    store: Store, other: Store
) -> None:
    grant = await store.grant(TTL)
    await store.put({"a/1": b"x", "a/2": b"y", "a/3": b"z"}, lease=grant.lease)
    await other.put({"a/2": b"!"}, lease=0)
    await other.delete(["a/3"])
    assert await store.read(["a/3", "a/1", "a", "a/2"]) == (
        KeyValue("a/1", b"x", grant.lease),
        KeyValue("a/2", b"!", 0),
    )
    assert await store.read(f"a/{n}" for n in range(100)) == (
        KeyValue("a/1", b"x", grant.lease),
        KeyValue("a/2", b"!", 0),
    )
    assert await store.read([]) == ()


async def test_deleting_what_is_not_there_changes_nothing(store: Store) -> None:
    after = await store.put({"a": b"x"}, lease=0)
    assert await store.delete(["a", "b", "a"]) == after + 1
    assert await store.delete(["a"]) == after + 1
    async with store.watch("", after=after) as batches:
        assert await take(batches, 1) == [Batch(after + 1, (KeyValue("a", None),))]


async def test_what_another_owner_holds_is_neither_written_nor_deleted_if_so_wished(
    store: Store, other: Store
) -> None:
    ours, theirs = (await store.grant(TTL)).lease, (await other.grant(TTL)).lease
    await store.put({"a/1": b"x", "a/2": b"x", "a/3": b"x"}, lease=ours)
    await other.put({"a/2": b"y"}, lease=theirs)
    await other.put({"a/3": b"z"}, lease=0)
    after = await store.put({f"a/{n}": b"!" for n in range(5)}, lease=ours, if_held=True)
    assert (await store.list("a/")).items == (
        KeyValue("a/1", b"!", ours),
        KeyValue("a/2", b"y", theirs),
        KeyValue("a/3", b"z", 0),
    )
    assert await store.delete((f"a/{n}" for n in range(5)), lease=ours) == after + 1
    assert await contents(store, "a/") == {"a/2": b"y", "a/3": b"z"}
    assert await store.delete(["a/1", "a/2"], lease=ours) == after + 1, "nothing has changed"


async def test_a_prefix_is_exact(store: Store) -> None:
    keys = [
        "a/b",
        "a/b/",
        "a/b/c",
        "a/b/ü",
        "a/b/\U0010ffff",
        "a/bc",
        "a/b0",
        "a/b.",
        "A/b/c",
        "a/a/b/c",
    ]
    await store.put(dict.fromkeys(keys, b"x"), lease=0)
    assert set(await contents(store, "a/b/")) == {"a/b/", "a/b/c", "a/b/ü", "a/b/\U0010ffff"}
    assert set(await contents(store, "a/b/c/")) == set()
    assert set(await contents(store, "")) == set(keys)


async def test_pattern_characters_in_a_prefix_mean_themselves(store: Store) -> None:
    await store.put({"a%/1": b"x", "ab/1": b"x", "a_/1": b"x", "a*/1": b"x"}, lease=0)
    for prefix in ("a%/", "a_/", "a*/"):
        assert set(await contents(store, prefix)) == {f"{prefix}1"}


@pytest.mark.parametrize(
    "value", [b"", b"\x00\xff\n'\"", "grüße 🎈".encode(), bytes(1 << 20)], ids=len
)
async def test_values_are_any_bytes(store: Store, value: bytes) -> None:
    revision = await store.put({"ключ/名前/🎈": value}, lease=0)
    assert await contents(store, "ключ/名") == {"ключ/名前/🎈": value}
    async with store.watch("ключ/", after=revision - 1) as batches:
        assert await take(batches, 1) == [Batch(revision, (KeyValue("ключ/名前/🎈", value),))]


# -- watches


async def test_a_watch_brings_what_was_written_since_the_listing(store: Store) -> None:
    listing = await store.list("a/")
    first = await store.put({"a/1": b"x"}, lease=0)
    second = await store.delete(["a/1"])
    async with store.watch("a/", after=listing.revision) as batches:
        third = await store.put({"a/2": b"y"}, lease=0)
        assert await take(batches, 3) == [
            Batch(first, (KeyValue("a/1", b"x"),)),
            Batch(second, (KeyValue("a/1", None),)),
            Batch(third, (KeyValue("a/2", b"y"),)),
        ]


async def test_a_watch_waits_for_what_comes(store: Store, other: Store) -> None:
    after = (await store.list("")).revision
    seen: list[Batch] = []

    async def follow() -> None:
        async with store.watch("a/", after=after) as batches:
            seen.extend(await take(batches, 1))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(follow)
        await anyio.wait_all_tasks_blocked()
        revision = await other.put({"a/1": b"x"}, lease=0)
    assert seen == [Batch(revision, (KeyValue("a/1", b"x"),))]


async def test_all_changes_of_one_revision_are_one_batch(store: Store) -> None:
    grant = await store.grant(TTL)
    after = (await store.list("")).revision
    async with store.watch("a/", after=after) as batches:
        await store.put({"a/1": b"x", "b/1": b"x", "a/2": b"y"}, lease=grant.lease)
        await store.delete(["a/1", "a/2", "b/1"])
        put, delete = await take(batches, 2)
    assert set(put.changes) == {
        KeyValue("a/1", b"x", grant.lease),
        KeyValue("a/2", b"y", grant.lease),
    }
    assert set(delete.changes) == {KeyValue("a/1", None), KeyValue("a/2", None)}
    assert (put.revision, delete.revision) == (after + 1, after + 2)


async def test_a_watch_brings_its_prefix_only(store: Store) -> None:
    after = (await store.list("")).revision
    async with store.watch("a/b/", after=after) as batches:
        await store.put({"a/bc": b"x"}, lease=0)
        await store.put({"a/b": b"x"}, lease=0)
        await store.put({"b": b"x"}, lease=0)
        last = await store.put({"a/b/c": b"x", "a/c": b"x"}, lease=0)
        assert await take(batches, 1) == [Batch(last, (KeyValue("a/b/c", b"x"),))]


async def test_one_key_besides_is_listed_and_watched(store: Store) -> None:
    await store.put({"a/b": b"1", "a/b/c": b"x", "a/b.c": b"x", "a/bc/d": b"x"}, lease=0)
    listing = await store.list("a/b/", also="a/b")
    assert {item.key for item in listing.items} == {"a/b", "a/b/c"}
    assert {item.key for item in (await store.list("a/b/", also="a/x")).items} == {"a/b/c"}

    async with store.watch("a/b/", after=listing.revision, also="a/b") as batches:
        await store.put({"a/b.c": b"y", "a/bc/d": b"y", "a": b"y"}, lease=0)
        revisions = [
            await store.put({"a/b": b"2"}, lease=0),
            await store.put({"a/b/c": b"y"}, lease=0),
            await store.delete(["a/b"]),
            await store.put({"a/b/c": b"z", "a/b": b"3"}, lease=0),
        ]
        seen: dict[str, list[tuple[int, bytes | None]]] = {}
        while sum(map(len, seen.values())) < 5:
            [batch] = await take(batches, 1)
            for change in batch.changes:
                seen.setdefault(change.key, []).append((batch.revision, change.value))
    assert seen == {
        "a/b": [(revisions[0], b"2"), (revisions[2], None), (revisions[3], b"3")],
        "a/b/c": [(revisions[1], b"y"), (revisions[3], b"z")],
    }


async def test_several_prefixes_are_listed_and_watched_as_one(store: Store) -> None:
    await store.put({"a/1": b"x", "b": b"x", "b/1": b"x", "c/1": b"x", "k": b"x"}, lease=0)
    listing = await store.list("c/", "a/", also="k")
    assert sorted(item.key for item in listing.items) == ["a/1", "c/1", "k"]
    assert {item.key for item in (await store.list("c/", "d/")).items} == {"c/1"}

    async with store.watch("c/", "a/", after=listing.revision, also="k") as batches:
        await store.put({"b/1": b"y"}, lease=0)
        both = await store.put({"a/1": b"y", "c/1": b"y"}, lease=0)
        gone = await store.delete(["k", "a/1"])
        seen: set[tuple[int, str, bytes | None]] = set()
        while len(seen) < 4:
            [batch] = await take(batches, 1)
            seen |= {(batch.revision, change.key, change.value) for change in batch.changes}
    assert seen == {
        (both, "a/1", b"y"),
        (both, "c/1", b"y"),
        (gone, "k", None),
        (gone, "a/1", None),
    }


async def test_a_watch_misses_nothing_while_others_write(store: Store, other: Store) -> None:
    after = (await store.list("")).revision

    async def write(client: Store, key: str) -> None:
        for n in range(20):
            await client.put({key: b"%d" % n}, lease=0)

    async with store.watch("a/", after=after) as batches, anyio.create_task_group() as tasks:
        tasks.start_soon(write, store, "a/1")
        tasks.start_soon(write, other, "a/2")
        seen = await take(batches, 40)

    assert [batch.revision for batch in seen] == list(range(after + 1, after + 41))
    for key in ("a/1", "a/2"):
        values = [c.value for batch in seen for c in batch.changes if c.key == key]
        assert values == [b"%d" % n for n in range(20)]


async def test_two_clients_see_each_others_writes_at_once(store: Store, other: Store) -> None:
    after = await store.put({"a": b"1"}, lease=0)
    assert await contents(other, "") == {"a": b"1"}
    async with store.watch("", after=after) as batches:
        for n in range(3):
            await other.put({"a": b"%d" % n}, lease=0)
            with anyio.fail_after(1.0):
                assert (await anext(batches)).changes == (KeyValue("a", b"%d" % n),)


async def test_many_watches_at_once(store: Store) -> None:
    after = (await store.list("")).revision
    seen: list[Batch] = []

    async def follow(prefix: str) -> None:
        async with store.watch(prefix, after=after) as batches:
            seen.extend(await take(batches, 1))

    async with anyio.create_task_group() as tasks:
        for n in range(10):
            tasks.start_soon(follow, f"{n}/")
        await store.put({f"{n}/x": b"" for n in range(10)}, lease=0)

    assert {batch.changes[0].key for batch in seen} == {f"{n}/x" for n in range(10)}


async def test_a_watch_from_before_the_compaction_is_refused(
    store: Store, harness: Harness
) -> None:
    revisions = [await store.put({"a": b"%d" % n}, lease=0) for n in range(5)]
    await harness.compact(revisions[3])

    with pytest.raises(Compacted), anyio.fail_after(PATIENCE):
        async with store.watch("a", after=revisions[0]) as batches:
            await anext(batches)
    async with store.watch("a", after=revisions[3]) as batches:
        assert await take(batches, 1) == [Batch(revisions[4], (KeyValue("a", b"4"),))]


async def test_a_compaction_leaves_the_keys_and_running_watches(
    store: Store, harness: Harness
) -> None:
    after = await store.put({"a": b"1"}, lease=0)
    async with store.watch("a", after=after) as batches:
        revision = await store.put({"a": b"2"}, lease=0)
        await take(batches, 1)
        await harness.compact(revision)
        await store.put({"a": b"3"}, lease=0)
        assert (await take(batches, 1))[0].changes == (KeyValue("a", b"3"),)
    assert await contents(store, "") == {"a": b"3"}


async def test_a_watch_from_the_future_is_refused(store: Store) -> None:
    revision = await store.put({"a": b"1"}, lease=0)
    with pytest.raises(Compacted), anyio.fail_after(PATIENCE):
        async with store.watch("a", after=revision + 1000) as batches:
            await anext(batches)


async def test_a_cancelled_watch_leaves_no_task(store: Store) -> None:
    after = (await store.list("")).revision
    before = asyncio.all_tasks()

    async def follow() -> None:
        async with store.watch("a", after=after) as batches:
            watching.set()
            await anext(batches)

    watching = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(follow)
        await watching.wait()
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()

    with anyio.fail_after(PATIENCE):
        while asyncio.all_tasks() - before:
            await anyio.sleep(0.01)


# -- an owner dies


async def test_the_keys_of_a_dead_owner_go_in_one_batch(
    store: Store, other: Store, harness: Harness
) -> None:
    living = await store.grant(TTL)
    doomed = await harness.doomed_lease()
    await store.put({"a/0": b"x"}, lease=living.lease)
    after = await store.put({"a/1": b"x", "a/2": b"x", "b/1": b"x"}, lease=doomed)

    async with store.watch("a/", after=after) as batches:
        await harness.kill_owner(doomed)
        (batch,) = await take(batches, 1)

    assert batch.revision == after + 1
    assert set(batch.changes) == {KeyValue("a/1", None), KeyValue("a/2", None)}
    assert await contents(other, "") == {"a/0": b"x"}
    assert await store.renew(doomed) == 0.0
    with pytest.raises(LeaseGone):
        await store.put({"a/1": b"x"}, lease=doomed)
    assert await store.renew(living.lease) > 0.0


async def test_a_key_that_moved_survives_its_first_owner(store: Store, harness: Harness) -> None:
    living = await store.grant(TTL)
    doomed = await harness.doomed_lease()
    await store.put({"a/1": b"x", "a/2": b"x"}, lease=doomed)
    after = await store.put({"a/2": b"y"}, lease=living.lease)
    async with store.watch("a/", after=after) as batches:
        await harness.kill_owner(doomed)
        (batch,) = await take(batches, 1)
    assert batch.changes == (KeyValue("a/1", None),)
    assert await contents(store, "") == {"a/2": b"y"}


# -- closing


async def test_a_closed_store_opens_again(store: Store, other: Store) -> None:
    await store.put({"a": b"1"}, lease=0)
    await store.aclose()
    await store.aclose()
    assert await contents(store, "") == {"a": b"1"}
    revision = await other.put({"a": b"2"}, lease=0)
    async with store.watch("a", after=revision - 1) as batches:
        assert await take(batches, 1) == [Batch(revision, (KeyValue("a", b"2"),))]


async def test_closing_one_client_leaves_the_other_watching(store: Store, other: Store) -> None:
    after = await store.put({"a": b"1"}, lease=0)
    async with other.watch("a", after=after) as batches:
        await other.list("")
        await store.aclose()
        await other.put({"a": b"2"}, lease=0)
        assert (await take(batches, 1))[0].changes == (KeyValue("a", b"2"),)


async def test_a_store_says_where_it_is(store: Store) -> None:
    assert "://" in store.name
    assert store.peer is None or len(store.peer) == 2
