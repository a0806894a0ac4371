"""Many watches, one stream: each gets its own, and none can harm another."""

import time
import urllib.request
from collections.abc import Callable

import anyio
import anyio.to_thread
import pytest
from aetcd import rpc

from meshkit.errors import RegistryAuthError, RegistryUnavailable
from meshkit.registry.etcd import EtcdStore, changes
from meshkit.registry.etcd.watch_stream import WatchStream
from meshkit.registry.store import Compacted
from meshkit.testing.etcd import EtcdProcess
from tests.registry.etcd.reading import take
from tests.registry.etcd.test_store import compact

pytestmark = [pytest.mark.anyio, pytest.mark.etcd]

SERVICES = 50


def metric(etcd: EtcdProcess, name: str) -> int:
    """A figure as etcd itself reports it; `name` with its labels."""
    url = f"http://127.0.0.1:{etcd._health_port}/metrics"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    return int(float(next((line.split()[-1] for line in lines if line.startswith(name)), "0")))


def streams(etcd: EtcdProcess) -> int:
    return metric(etcd, "etcd_debugging_mvcc_watch_stream_total")


def watches(etcd: EtcdProcess) -> int:
    return metric(etcd, "etcd_debugging_mvcc_watcher_total")


async def becomes(figure: Callable[[], int], expected: int) -> None:
    with anyio.fail_after(5):
        while figure() != expected:
            await anyio.sleep(0.01)


async def test_many_watches_share_one_stream_and_hear_of_their_own(
    own_etcd: EtcdProcess, make_store
) -> None:
    store = make_store(own_etcd.endpoint)
    start = (await store.list("s")).revision
    heard: dict[str, list[str]] = {}
    ready = anyio.Semaphore(0)

    async def follow(prefix: str) -> None:
        async with store.watch(prefix, after=start) as batches:
            ready.release()
            [batch] = await take(batches)
            heard[prefix] = [change.key for change in batch.changes]

    prefixes = [f"s{number}/" for number in range(SERVICES)]
    async with anyio.create_task_group() as group:
        for prefix in prefixes:
            group.start_soon(follow, prefix)
        for _ in prefixes:
            await ready.acquire()
        assert (streams(own_etcd), watches(own_etcd)) == (1, SERVICES)
        for prefix in prefixes:
            await store.put({f"{prefix}a": b""}, lease=0)
    assert heard == {prefix: [f"{prefix}a"] for prefix in prefixes}
    await becomes(lambda: streams(own_etcd) + watches(own_etcd), 0)


async def test_watch_that_leaves_is_taken_off_and_the_others_stay(
    own_etcd: EtcdProcess, make_store
) -> None:
    store = make_store(own_etcd.endpoint)
    start = (await store.list("a")).revision
    async with store.watch("a", after=start) as stays:
        async with store.watch("a", after=start) as leaves:
            assert watches(own_etcd) == 2
            await store.put({"a1": b""}, lease=0)
            await take(leaves)
        await becomes(lambda: watches(own_etcd), 1)
        with pytest.raises(RegistryUnavailable, match="closed"):
            await anext(leaves)
        revision = await store.put({"a2": b""}, lease=0)
        assert (await take(stays, 2))[1].revision == revision


async def test_cancelled_reader_harms_nobody(own_etcd: EtcdProcess, make_store) -> None:
    """At any moment of its watch, the opening included."""
    store = make_store(own_etcd.endpoint)
    start = (await store.list("a")).revision
    async with store.watch("a", after=start) as stays:
        for number in range(30):
            with anyio.move_on_after(number * 0.0003):
                async with store.watch("b", after=start) as leaves:
                    await anext(leaves)
        revision = await store.put({"a": b""}, lease=0)
        assert (await take(stays))[0].revision == revision
        assert streams(own_etcd) == 1
        await becomes(lambda: watches(own_etcd), 1)


async def test_answer_to_a_watch_given_up_is_not_taken_for_that_of_the_next(
    own_etcd: EtcdProcess, make_store
) -> None:
    store = make_store(own_etcd.endpoint, timeout=20.0, probe_timeout=20.0)
    start = (await store.list("a")).revision
    async with store.watch("c", after=start):  # keeps the stream
        own_etcd.pause()
        with anyio.move_on_after(0.1):
            async with store.watch("a", after=start):
                raise AssertionError("not reached")
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.to_thread.run_sync, lambda: (time.sleep(0.1), own_etcd.resume()))
            async with store.watch("b", after=start) as batches:
                await store.put({"a": b""}, lease=0)
                revision = await store.put({"b": b""}, lease=0)
                assert (await take(batches))[0].revision == revision


async def test_history_of_one_watch_is_not_that_of_all(store: EtcdStore, prefix: str) -> None:
    old = await store.put({prefix: b"1"}, lease=0)
    await store.put({prefix: b"2"}, lease=0)
    new = await store.put({prefix: b"3"}, lease=0)
    await compact(store._session, new)
    async with store.watch(prefix, after=new) as stays:
        with pytest.raises(Compacted, match="compacted"):
            async with store.watch(prefix, after=old - 1) as batches:
                await anext(batches)
        revision = await store.put({prefix: b"4"}, lease=0)
        assert (await take(stays))[0].revision == revision


async def test_end_of_the_stream_ends_all_watches_and_the_next_opens_another(
    own_etcd: EtcdProcess, make_store
) -> None:
    store = make_store(own_etcd.endpoint)
    start = (await store.list("a")).revision
    async with store.watch("a", after=start) as one, store.watch("b", after=start) as other:
        await anyio.to_thread.run_sync(own_etcd.restart)
        for batches in (one, other):
            with anyio.fail_after(2), pytest.raises(RegistryUnavailable):
                await anext(batches)
        async with store.watch("a", after=start) as again:
            revision = await store.put({"a": b""}, lease=0)
            assert (await take(again))[0].revision == revision
            assert (streams(own_etcd), watches(own_etcd)) == (1, 1)


async def test_silent_watches_are_probed_once_for_all(own_etcd: EtcdProcess, make_store) -> None:
    store = make_store(own_etcd.endpoint, probe_interval=0.1)
    start = (await store.list("a")).revision
    reads = 'grpc_server_started_total{grpc_method="Range"'
    async with store.watch("a", after=start), store.watch("b", after=start) as batches:
        before = metric(own_etcd, reads)
        with anyio.move_on_after(1.0):
            await anext(batches)
    assert 3 <= metric(own_etcd, reads) - before <= 13, "one in 0.08 to 0.12 s"


async def test_watch_outlives_an_event_loop_that_is_held_up(
    own_etcd: EtcdProcess, make_store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever could not listen must not say that nobody spoke."""
    store = make_store(own_etcd.endpoint, probe_interval=0.1, probe_timeout=0.2)
    start = (await store.list("a")).revision
    async with store.watch("a", after=start) as batches:
        probed = anyio.Event()
        ask, asked = store._session._member.call, 0

        async def held_up(*request):
            nonlocal asked
            asked += 1
            if asked == 1:
                time.sleep(0.4)
                raise RegistryUnavailable("DEADLINE_EXCEEDED")
            await ask(*request)
            probed.set()

        with monkeypatch.context() as patched:
            patched.setattr(store._session._member, "call", held_up)
            with anyio.fail_after(2):
                await probed.wait()
        revision = await store.put({"a": b""}, lease=0)
        assert (await take(batches))[0].revision == revision


async def test_member_that_refuses_the_probe_lives(
    own_etcd: EtcdProcess, make_store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store(own_etcd.endpoint, probe_interval=0.1)
    start = (await store.list("a")).revision
    async with store.watch("a", after=start) as batches:
        probed = anyio.Event()

        async def refuse(*_) -> None:
            probed.set()
            raise RegistryAuthError("permission denied")

        with monkeypatch.context() as patched:
            patched.setattr(store._session._member, "call", refuse)
            with anyio.fail_after(2):
                await probed.wait()
        revision = await store.put({"a": b""}, lease=0)
        assert (await take(batches))[0].revision == revision


async def test_watch_that_nobody_reads_is_ended(
    store: EtcdStore, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "_BACKLOG", 3)
    start = (await store.list(prefix)).revision
    async with store.watch(prefix, after=start) as read, store.watch(prefix, after=start) as unread:
        for _ in range(4):
            await store.put({prefix: b""}, lease=0)
            await take(read)
        with anyio.fail_after(2):
            while unread._watches[0]._end is None:
                await anyio.sleep(0.01)
        assert len(await take(unread, 3)) == 3
        with pytest.raises(RegistryUnavailable, match="nobody reads"):
            await anext(unread)


@pytest.mark.parametrize("asked", [[], [7]])
async def test_watch_that_nobody_asked_for_ends_the_stream(
    asked: list[int], store: EtcdStore, prefix: str
) -> None:
    """Better no stream than one that cannot be relied on."""
    start = (await store.list(prefix)).revision
    async with store.watch(prefix, after=start):
        [stream] = store._watches._streams
        assert isinstance(stream, WatchStream)
        stream._asked.extend(asked)
        with pytest.raises(RegistryUnavailable, match="nobody asked for"):
            stream._dispatch(rpc.WatchResponse(created=True, watch_id=8))
