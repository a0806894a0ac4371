"""Cancel scopes, foreign cancels, and what is left afterwards."""

import asyncio
import contextlib
import gc
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from meshkit.errors import RegistryUnavailable
from meshkit.registry.etcd import EtcdStore
from meshkit.registry.store import LeaseGone
from meshkit.testing.etcd import EtcdProcess
from tests.leftover import no_task_is_left
from tests.registry.etcd.reading import take

pytestmark = [pytest.mark.anyio, pytest.mark.etcd]


@pytest.fixture
def frozen(own_etcd: EtcdProcess, make_store):
    """A store whose etcd answers nothing from `own_etcd.pause()` on."""
    yield make_store(own_etcd.endpoint, timeout=5.0)
    own_etcd.resume()


@pytest.mark.parametrize("operation", ["list", "renew", "watch"])
async def test_cancel_scope_catches_its_own_cancellation(
    operation: str, own_etcd: EtcdProcess, frozen: EtcdStore
) -> None:
    grant = await frozen.grant(60)
    await frozen.renew(grant.lease)
    own_etcd.pause()

    async def watch() -> None:
        async with frozen.watch("a", after=0) as changes:
            await anext(changes)

    steps = {"list": lambda: frozen.list("a"), "renew": lambda: frozen.renew(grant.lease)}
    for _ in range(20):
        with pytest.raises(TimeoutError):
            with anyio.fail_after(0.03):
                await steps.get(operation, watch)()
    assert asyncio.current_task().cancelling() == 0


async def test_native_cancellation_stays_cancellation(
    own_etcd: EtcdProcess, frozen: EtcdStore
) -> None:
    await frozen.list("a")
    own_etcd.pause()
    task = asyncio.ensure_future(frozen.list("a"))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_close_under_requests_is_unavailable_not_cancelled(
    own_etcd: EtcdProcess, frozen: EtcdStore
) -> None:
    grant = await frozen.grant(60)
    listing = await frozen.list("a")
    async with frozen.watch("a", after=listing.revision) as changes:
        own_etcd.pause()
        waiting = [
            asyncio.ensure_future(step)
            for step in (frozen.list("a"), frozen.renew(grant.lease), anext(changes))
        ]
        await asyncio.sleep(0.1)
        await frozen.aclose()
        with anyio.fail_after(1):
            outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [RegistryUnavailable] * 3
    assert frozen._session._member is None, "nobody may open again what was closed"


def connections(cluster: list[EtcdProcess]) -> int:
    """Connections of this process to the members' client ports."""
    ports = {int(member.endpoint.rpartition(":")[2]) for member in cluster}
    ours = set()
    for file in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            ours.add(str(file.readlink()))
    tables = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()
    rows = [row.split() for row in tables.splitlines() if ":" in row]
    return sum(
        row[2] != "rem_address"
        and int(row[2].rpartition(":")[2], 16) in ports
        and f"socket:[{row[9]}]" in ours
        for row in rows
    )


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Whatever is closed is closed then, not when a cycle is found."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.skipif(not Path("/proc/net/tcp6").exists(), reason="needs /proc")
async def test_close_leaves_no_task_and_no_connection(
    cluster: list[EtcdProcess], make_store, prefix: str, no_collector: None
) -> None:
    """All sorts of use, a retired connection and errors included; and then once more."""
    store = make_store(*(member.endpoint for member in cluster))
    tasks = asyncio.all_tasks()
    for _ in range(2):
        grant = await store.grant(60)
        await store.renew(grant.lease)
        start = await store.put({prefix: b""}, lease=grant.lease)
        async with store.watch(prefix, after=start) as changes:
            with anyio.move_on_after(0.01):
                await anext(changes)
            with pytest.raises(LeaseGone):
                await store.put({prefix: b""}, lease=1)
            await store._session.rotate(store._session._member)
            await store.renew(grant.lease)
            with anyio.move_on_after(0.01):
                await store.list(prefix)
            assert connections(cluster) == 2
        await store.revoke(grant.lease)
        await store.aclose()
        await no_task_is_left(tasks)
        with anyio.fail_after(5):  # gRPC closes sockets in a thread of its own
            while connections(cluster):
                await anyio.sleep(0.01)
    with pytest.raises(RegistryUnavailable, match="closed"):
        await anext(changes)


async def test_reads_that_are_cancelled_do_not_end_etcd(
    own_etcd: EtcdProcess, make_store, prefix: str
) -> None:
    """As transactions they did, before etcd 3.5.7 (etcd#14110)."""
    store = make_store(own_etcd.endpoint)
    keys = [f"{prefix}{number}" for number in range(100)]
    await store.put(dict.fromkeys(keys, b""), lease=0)
    for number in range(200):
        with anyio.move_on_after(number % 20 * 0.0002):
            await store.list(prefix, also=f"also/{prefix}")
            await store.read(keys)
    assert own_etcd.exit_status is None, own_etcd.last_words


async def test_rotation_never_closes_a_connection_in_use(
    cluster: list[EtcdProcess], make_store, prefix: str
) -> None:
    store = make_store(*(member.endpoint for member in cluster))
    start = (await store.list(prefix)).revision
    async with store.watch(prefix, after=start) as changes:
        watched = store._session._member
        await store._session.rotate(watched)
        await store._session.rotate(watched)
        assert store.peer[1] == int(cluster[1].endpoint.rpartition(":")[2])
        revision = await store.put({prefix: b""}, lease=0)
        assert (await take(changes))[0].revision == revision
        assert store._session._retired == {watched}
    await store._session.rotate(store._session._member)
    assert store._session._retired == set()


async def test_cancelled_watch_ends_cleanly(store: EtcdStore, prefix: str) -> None:
    start = (await store.list(prefix)).revision
    before = asyncio.all_tasks()

    async def watch() -> None:
        async with store.watch(prefix, after=start) as changes:
            async for _ in changes:
                pass

    async with anyio.create_task_group() as group:
        group.start_soon(watch)
        await anyio.sleep(0.1)
        group.cancel_scope.cancel()
    await no_task_is_left(before)
    assert store._session._member.in_use is False
