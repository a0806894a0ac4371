"""What networks and operators do to an etcd: no wait is unbounded, no watch just falls silent."""

import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from aetcd import rpc

from meshkit.errors import RegistryAuthError, RegistryUnavailable
from meshkit.registry.etcd import EtcdStore
from meshkit.registry.etcd.member import Member
from meshkit.registry.store import Compacted
from meshkit.testing import TcpProxy
from meshkit.testing.etcd import EtcdProcess, free_ports
from tests.registry.etcd.reading import take
from tests.registry.etcd.test_store import compact

pytestmark = [pytest.mark.anyio, pytest.mark.etcd]


async def ends(changes, within: float) -> float:
    """Seconds until the watch says that it is broken."""
    began = time.monotonic()
    with anyio.fail_after(within), pytest.raises(RegistryUnavailable):
        await anext(changes)
    return time.monotonic() - began


async def works(store: EtcdStore, prefix: str, within: float = 5.0) -> None:
    """It can be listed and written, and a new watch hears of it."""
    with anyio.fail_after(within):
        while True:
            try:
                start = (await store.list(prefix)).revision
                async with store.watch(prefix, after=start) as changes:
                    revision = await store.put({prefix: b""}, lease=0)
                    assert (await take(changes))[0].revision == revision
                return
            except (RegistryUnavailable, Compacted):
                await anyio.sleep(0.05)


async def resume(store: EtcdStore, prefix: str, after: int) -> None:
    """Watch on from an old revision, as soon as the store is there again."""
    while True:
        try:
            async with store.watch(prefix, after=after) as changes:
                await anext(changes)
        except RegistryUnavailable:
            await anyio.sleep(0.05)


@pytest.mark.parametrize(
    ("fault", "within"),
    [
        pytest.param(TcpProxy.pause, 2.5, id="half-open"),
        pytest.param(TcpProxy.half_close, 1.0, id="half-closed"),
        pytest.param(TcpProxy.reset, 1.0, id="reset"),
    ],
)
async def test_connection_that_is(
    fault: Callable[[TcpProxy], None], within: float, etcd: EtcdProcess, make_store, prefix: str
) -> None:
    async with TcpProxy(etcd.endpoint) as proxy:
        store = make_store(proxy.address, etcd.endpoint)
        grant = await store.grant(60)
        await store.renew(grant.lease)
        start = (await store.list(prefix)).revision
        async with store.watch(prefix, after=start) as changes:
            fault(proxy)
            took = await ends(changes, within)
        began = time.monotonic()
        await works(store, prefix)
        assert await store.renew(grant.lease) == 60.0
        print(f"noticed after {took:.2f} s, all well {time.monotonic() - began:.2f} s later")
        assert store.peer[1] == int(etcd.endpoint.rpartition(":")[2])


async def test_member_that_says_goaway(make_store, prefix: str) -> None:
    """An etcd that stops in order; the next one begins on the same port."""
    with EtcdProcess() as process:
        async with TcpProxy(process.endpoint) as proxy:
            store = make_store(proxy.address)
            start = (await store.list(prefix)).revision
            async with (
                store.watch(prefix, after=start) as changes,
                anyio.create_task_group() as group,
            ):
                group.start_soon(anyio.to_thread.run_sync, process.restart)
                await ends(changes, 8.0)
            await works(store, prefix)


async def test_connection_that_is_slow_is_not_left(etcd, make_store, prefix: str) -> None:
    """0.3 s there and 0.3 s back."""
    async with TcpProxy(etcd.endpoint) as proxy:
        store = make_store(proxy.address)
        start = (await store.list(prefix)).revision
        async with store.watch(prefix, after=start) as changes:
            proxy.delay(0.3)
            with anyio.move_on_after(2.2):
                await anext(changes)
            revision = await store.put({prefix: b""}, lease=0)
            assert (await take(changes))[0].revision == revision
        assert proxy.accepted == 1


async def test_lost_quorum_and_back(cluster: list[EtcdProcess], make_store, prefix: str) -> None:
    store = make_store(*(member.endpoint for member in cluster))
    grant = await store.grant(60)
    start = (await store.list(prefix)).revision
    async with store.watch(prefix, after=start) as changes:
        for member in cluster[1:]:
            await anyio.to_thread.run_sync(member.kill)
        await ends(changes, 8.0)
    for step in (lambda: store.list(prefix), lambda: store.renew(grant.lease)):
        with anyio.fail_after(3), pytest.raises(RegistryUnavailable):
            await step()
    await anyio.to_thread.run_sync(cluster[1].restart)
    await works(store, prefix, within=8.0)
    assert await store.renew(grant.lease) == 60.0


async def test_compaction_while_cut_off(etcd: EtcdProcess, make_store, prefix: str) -> None:
    async with TcpProxy(etcd.endpoint) as proxy:
        store, elsewhere = make_store(proxy.address), make_store(etcd.endpoint)
        start = (await store.list(prefix)).revision
        async with store.watch(prefix, after=start) as changes:
            proxy.cut()
            await ends(changes, 1.0)
        for number in range(5):
            last = await elsewhere.put({prefix: b"%d" % number}, lease=0)
        await compact(elsewhere._session, last)
        proxy.heal()
        with anyio.fail_after(5), pytest.raises(Compacted, match="compacted"):
            await resume(store, prefix, start)
        assert (await store.list(prefix)).items[0].value == b"4"
        await works(store, prefix)


def etcdutl(process: EtcdProcess) -> Path:
    found = process._binary.with_name("etcdutl")
    if not found.is_file():
        pytest.skip("needs etcdutl beside etcd")
    return found


async def test_restore_from_an_older_backup(
    own_etcd: EtcdProcess, make_store, prefix: str, tmp_path: Path
) -> None:
    """The revision goes back, the cluster is the same: an old revision is the future now."""
    utility = etcdutl(own_etcd)
    store = make_store(own_etcd.endpoint)
    await store.put({f"{prefix}old": b""}, lease=0)
    backup = tmp_path / "backup"
    await save(store, backup)
    for number in range(20):
        last = await store.put({f"{prefix}new": b"%d" % number}, lease=0)
    await store.list(prefix)
    cluster = store._cluster
    async with store.watch(prefix, after=last) as changes:
        await anyio.to_thread.run_sync(restore, own_etcd, utility, backup)
        await ends(changes, 2.0)
    with anyio.fail_after(5), pytest.raises(Compacted, match=f"before {last}"):
        await resume(store, prefix, last)
    assert [item.key for item in (await store.list(prefix)).items] == [f"{prefix}old"]
    assert store._cluster == cluster
    await works(store, prefix)


async def save(store: EtcdStore, backup: Path) -> None:
    with backup.open("wb") as file:
        async for part in store._session._member.maintenance.Snapshot(rpc.SnapshotRequest()):
            file.write(part.blob)


def restore(process: EtcdProcess, utility: Path, backup: Path) -> None:
    """As an operator does it: with etcd down, into a new directory."""
    process.kill()
    shutil.rmtree(process._folder / "data")
    peers = f"http://127.0.0.1:{process._peer_port}"
    command = [utility, "snapshot", "restore", backup, "--data-dir", process._folder / "data"]
    command += ["--name", "default", "--initial-cluster", f"default={peers}"]
    command += ["--initial-advertise-peer-urls", peers]
    subprocess.run(command, check=True, capture_output=True, timeout=20)
    process.restart()


async def test_member_that_is_added(make_store, prefix: str) -> None:
    """Two of two have to agree from then on, so the first is silent until the second runs."""
    first_peer, second_peer = (f"http://127.0.0.1:{port}" for port in free_ports(2))
    quick = ("--heartbeat-interval", "20", "--election-timeout", "200")
    with EtcdProcess(name="m0", peers=[f"m0={first_peer}"], flags=quick) as first:
        store = make_store(first.endpoint)
        await store.list(prefix)
        request = rpc.MemberAddRequest(peerURLs=[second_peer])
        await rpc.ClusterStub(store._session._member._channel).MemberAdd(request)
        second = EtcdProcess(
            name="m1",
            peers=[f"m0={first_peer}", f"m1={second_peer}"],
            flags=("--initial-cluster-state", "existing", *quick),
        )
        with second:
            await works(store, prefix, within=10.0)
            start = (await store.list(prefix)).revision
            async with store.watch(prefix, after=start) as changes:
                revision = await make_store(second.endpoint).put({prefix: b""}, lease=0)
                assert (await take(changes))[0].revision == revision


async def test_renewal_opens_no_stream_to_nobody(
    make_store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each would cost memory for ever, and a registry may be away for days."""
    opened = []
    monkeypatch.setattr(Member, "open", lambda *method: opened.append(method))
    store = make_store("127.0.0.1:1")
    with pytest.raises(RegistryUnavailable, match=r"127\.0\.0\.1:1: UNAVAILABLE failed to connect"):
        await store.renew(1)
    assert opened == []


async def test_renewal_asks_a_member_that_refuses_to_say_how_it_is(
    etcd: EtcdProcess, make_store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Status may be kept for administrators; whoever refuses lives."""
    call = Member.call

    async def refuse(self: Member, method, request, *rest):
        if isinstance(request, rpc.StatusRequest):
            raise RegistryAuthError("permission denied")
        return await call(self, method, request, *rest)

    monkeypatch.setattr(Member, "call", refuse)
    store = make_store(etcd.endpoint)
    grant = await store.grant(30)
    assert await store.renew(grant.lease) == 30.0
    await store.revoke(grant.lease)
