import anyio
import pytest
from aetcd import rpc

from meshkit.errors import RegistryError, RegistryUnavailable
from meshkit.registry.etcd import EtcdStore
from meshkit.registry.etcd.session import Session
from meshkit.registry.store import Compacted, KeyValue, LeaseGone
from meshkit.testing.etcd import EtcdProcess
from tests.registry.etcd.reading import take

pytestmark = [pytest.mark.anyio, pytest.mark.etcd]


async def compact(session: Session, revision: int) -> None:
    await session.call(lambda member: member.kv.Compact, rpc.CompactionRequest(revision=revision))


async def test_ten_thousand_keys_are_listed_at_one_revision(store: EtcdStore, prefix: str) -> None:
    keys = [f"{prefix}{number:05}" for number in range(10_000)]
    for first in range(0, len(keys), 125):
        revision = await store.put(dict.fromkeys(keys[first : first + 125], b"v" * 100), lease=0)
    listing = await store.list(prefix)
    assert listing.revision == revision
    assert [item.key for item in listing.items] == keys


async def test_pages_show_one_revision(etcd: EtcdProcess, make_store, prefix: str) -> None:
    store = make_store(etcd.endpoint, page=2)
    keys = {f"{prefix}{number}": b"" for number in range(5)}
    revision = await store.put(keys, lease=0)
    ask, asked = store._session.call, 0

    async def ask_and_disturb(method, request):
        nonlocal asked
        answer, asked = await ask(method, request), asked + 1
        if asked == 1:
            await ask(
                lambda member: member.kv.Put, rpc.PutRequest(key=f"{prefix}9".encode(), value=b"")
            )
        return answer

    store._session.call = ask_and_disturb
    listing = await store.list(prefix)
    assert (listing.revision, len(listing.items), asked) == (revision, 5, 3)


async def test_compaction_between_two_pages_is_unavailable(
    etcd: EtcdProcess, make_store, prefix: str
) -> None:
    store = make_store(etcd.endpoint, page=2)
    await store.put({f"{prefix}{number}": b"" for number in range(5)}, lease=0)
    ask = store._session.call

    async def ask_and_compact(method, request):
        answer = await ask(method, request)
        store._session.call = ask
        await compact(store._session, await store.put({f"{prefix}x": b""}, lease=0))
        return answer

    store._session.call = ask_and_compact
    with pytest.raises(RegistryUnavailable, match="stale"):
        await store.list(prefix)


async def test_foreign_key_that_is_no_text_is_listed_and_deleted(
    store: EtcdStore, prefix: str
) -> None:
    key = prefix + "\udcff\udc80"
    await store.put({key: b"\xff"}, lease=0)
    assert (await store.list(prefix)).items == (KeyValue(key, b"\xff"),)
    await store.delete([key])
    assert (await store.list(prefix)).items == ()


async def test_lease_of_whole_seconds_and_at_least_two(store: EtcdStore) -> None:
    assert (await store.grant(0.5)).ttl == 2.0
    assert (await store.grant(2.5)).ttl == 3.0


async def test_several_leases_share_the_stream_and_get_their_own_answers(store: EtcdStore) -> None:
    short, long = await store.grant(5), await store.grant(60)
    ttls: dict[int, float] = {}

    async def renew(lease: int) -> None:
        ttls[lease] = await store.renew(lease)

    async with anyio.create_task_group() as group:
        for lease in (short.lease, long.lease, 12345):
            group.start_soon(renew, lease)
    assert ttls == {short.lease: 5.0, long.lease: 60.0, 12345: 0.0}


async def test_put_under_a_lease_that_is_gone(store: EtcdStore, prefix: str) -> None:
    grant = await store.grant(5)
    await store.revoke(grant.lease)
    with pytest.raises(LeaseGone):
        await store.put({prefix: b""}, lease=grant.lease)
    await store.revoke(grant.lease)
    assert await store.renew(grant.lease) == 0.0


async def test_more_than_a_transaction_takes_is_refused_in_words(
    store: EtcdStore, prefix: str
) -> None:
    with pytest.raises(RegistryError, match="too many operations") as caught:
        await store.put({f"{prefix}{number}": b"" for number in range(129)}, lease=0)
    assert type(caught.value) is RegistryError


async def test_watch_from_history_raises_compacted(store: EtcdStore, prefix: str) -> None:
    old = await store.put({prefix: b"1"}, lease=0)
    new = await store.put({prefix: b"2"}, lease=0)
    new = await store.put({prefix: b"3"}, lease=0)
    await compact(store._session, new)
    with pytest.raises(Compacted, match="compacted"):
        async with store.watch(prefix, after=old - 1) as changes:
            await anext(changes)


async def test_watch_from_the_future_raises_at_once(store: EtcdStore, prefix: str) -> None:
    revision = await store.put({prefix: b"1"}, lease=0)
    with pytest.raises(Compacted, match=f"before {revision + 1000}"):
        async with store.watch(prefix, after=revision + 1000):
            raise AssertionError("not reached")


async def test_watch_catches_up_and_groups_by_revision(store: EtcdStore, prefix: str) -> None:
    start = (await store.list(prefix)).revision
    revisions = [
        await store.put({f"{prefix}a": b"%d" % number, f"{prefix}b": b""}, lease=0)
        for number in range(5)
    ]
    async with store.watch(prefix, after=start) as changes:
        batches = await take(changes, 5)
    assert [batch.revision for batch in batches] == revisions
    assert {len(batch.changes) for batch in batches} == {2}
    assert batches[4].changes[0] == KeyValue(f"{prefix}a", b"4")


async def test_revision_cut_into_fragments_arrives_whole(store: EtcdStore, prefix: str) -> None:
    """etcd cuts a response that is longer than a request may be, anywhere between two events."""
    keys = [f"{prefix}{number}" for number in range(7)]
    start = (await store.list(prefix)).revision
    for _ in range(5):
        last = await store.put(dict.fromkeys(keys, b"x" * 200_000), lease=0)
    async with store.watch(prefix, after=start) as changes:
        batches = await take(changes, 5)
    assert batches[-1].revision == last
    assert [[change.key for change in batch.changes] for batch in batches] == [keys] * 5
    await store.delete(keys)


async def test_quiet_watch_lives_on(etcd: EtcdProcess, make_store, prefix: str) -> None:
    store = make_store(etcd.endpoint, probe_interval=0.1, probe_timeout=1.0)
    start = (await store.list(prefix)).revision
    async with store.watch(prefix, after=start) as changes:
        with anyio.move_on_after(0.6) as scope:
            await anext(changes)
        assert scope.cancelled_caught
        revision = await store.put({prefix: b""}, lease=0)
        assert (await take(changes))[0].revision == revision
