"""Members that die, freeze, forget, or were never there; all waits are bounded."""

import time

import anyio
import anyio.to_thread
import pytest
from aetcd import rpc

from meshkit.errors import RegistryError, RegistryUnavailable
from meshkit.registry.etcd import EtcdStore
from meshkit.registry.store import Compacted
from meshkit.testing import TcpProxy
from meshkit.testing.etcd import EtcdProcess, free_ports
from tests.registry.etcd.reading import take

pytestmark = [pytest.mark.anyio, pytest.mark.etcd]


async def until_it_works(operation, within: float) -> float:
    """Repeat as a loop of the registry would; returns the seconds that it took."""
    start = time.monotonic()
    with anyio.fail_after(within):
        while True:
            try:
                await operation()
                return time.monotonic() - start
            except RegistryUnavailable:
                await anyio.sleep(0.05)


def using(store: EtcdStore, cluster: list[EtcdProcess]) -> EtcdProcess:
    return next(m for m in cluster if m.endpoint == f"127.0.0.1:{store.peer[1]}")


async def test_killed_and_restarted(own_etcd: EtcdProcess, make_store, prefix: str) -> None:
    store = make_store(own_etcd.endpoint)
    grant = await store.grant(60)
    await store.renew(grant.lease)
    start = await store.put({prefix: b"1"}, lease=grant.lease)
    async with store.watch(prefix, after=start) as changes:
        await anyio.to_thread.run_sync(own_etcd.kill)
        with anyio.fail_after(1), pytest.raises(RegistryUnavailable):
            await anext(changes)
    for operation in (
        lambda: store.list(prefix),
        lambda: store.renew(grant.lease),
        lambda: store.grant(5),
        lambda: store.watch(prefix, after=start).__aenter__(),
    ):
        with anyio.fail_after(1), pytest.raises(RegistryUnavailable, match=own_etcd.endpoint):
            await operation()
    await anyio.to_thread.run_sync(own_etcd.restart)
    await until_it_works(lambda: store.list(prefix), within=3)
    assert await store.renew(grant.lease) == 60.0


async def test_far_away_a_connection_takes_longer_than_a_try(
    own_etcd: EtcdProcess, make_store, prefix: str
) -> None:
    """Each try begins another connection; with the same time for each, none would ever stand."""
    async with TcpProxy(own_etcd.endpoint) as proxy:
        proxy.delay(0.3)
        store = make_store(proxy.address)
        assert await until_it_works(lambda: store.list(prefix), within=20) > 1.2, "two round trips"
        grant = await store.grant(60)
        await until_it_works(lambda: store.renew(grant.lease), within=20)  # a stream, and a ping
        after = await store.put({prefix: b"1"}, lease=grant.lease)
        async with store.watch(prefix, after=after) as changes:
            revision = await store.put({prefix: b"2"}, lease=grant.lease)
            assert (await take(changes))[0].revision == revision


async def test_silence_makes_patient_but_not_for_ever(own_etcd: EtcdProcess, make_store) -> None:
    store = make_store(own_etcd.endpoint, timeout=0.2)
    await store.list("a")
    own_etcd.pause()
    waited = []
    for _ in range(5):
        start = time.monotonic()
        with pytest.raises(RegistryUnavailable):
            await store.list("a")
        waited.append(time.monotonic() - start)
    own_etcd.resume()
    assert [round(waited[0] / 0.2), waited[4] < 5 * 0.2] == [1, True], waited
    assert waited[4] > 3 * 0.2, waited
    await until_it_works(lambda: store.list("a"), within=5)
    own_etcd.pause()
    start = time.monotonic()
    with pytest.raises(RegistryUnavailable):
        await store.list("a")
    assert time.monotonic() - start < 2 * 0.2, "one answer, and it is as impatient as before"
    own_etcd.resume()


async def test_restart_between_two_requests_is_not_noticed(
    own_etcd: EtcdProcess, make_store
) -> None:
    """The stream and the connection have died of it; one more try has time enough."""
    store = make_store(own_etcd.endpoint)
    grant = await store.grant(60)
    await store.renew(grant.lease)
    await anyio.to_thread.run_sync(own_etcd.restart)
    assert await store.renew(grant.lease) == 60.0
    await store.list("a")


async def test_frozen_and_alone_every_wait_is_bounded(
    own_etcd: EtcdProcess, make_store, prefix: str
) -> None:
    store = make_store(own_etcd.endpoint, timeout=0.3, probe_interval=0.2, probe_timeout=0.3)
    grant = await store.grant(60)
    await store.renew(grant.lease)
    start = (await store.list(prefix)).revision
    async with store.watch(prefix, after=start) as changes:
        own_etcd.pause()
        with anyio.fail_after(1), pytest.raises(RegistryUnavailable, match=r"silent for 0\.2 s"):
            await anext(changes)
    for operation in (
        lambda: store.list(prefix),
        lambda: store.renew(grant.lease),
        lambda: store.renew(grant.lease),
        lambda: store.put({prefix: b""}, lease=0),
        lambda: store.revoke(grant.lease),
        lambda: store.watch(prefix, after=start).__aenter__(),
        lambda: store.list(prefix),
    ):
        began = time.monotonic()
        with pytest.raises(RegistryUnavailable):
            await operation()
        assert time.monotonic() - began < 1.5, "four times the timeout, at most"
    assert not any(member.in_use for member in store._session._retired), "all streams were dropped"
    began = time.monotonic()
    await store.aclose()
    assert time.monotonic() - began < 0.5
    own_etcd.resume()
    await store.list(prefix)


async def test_frozen_member_is_left_for_another(
    cluster: list[EtcdProcess], make_store, prefix: str
) -> None:
    store = make_store(*(member.endpoint for member in cluster))
    grant = await store.grant(60)
    await store.renew(grant.lease)
    victim = using(store, cluster)
    victim.pause()
    took = await until_it_works(lambda: store.renew(grant.lease), within=6)
    assert took < 4.5, "2 s for the silence, and an election if the leader froze"
    assert using(store, cluster) is not victim
    assert await until_it_works(lambda: store.list(prefix), within=3) < 1.0
    victim.resume()


async def test_watch_on_a_frozen_member_ends_and_is_opened_elsewhere(
    cluster: list[EtcdProcess], make_store, prefix: str
) -> None:
    endpoints = tuple(member.endpoint for member in cluster)
    store = make_store(*endpoints, probe_interval=0.5, probe_timeout=1.0)
    start = (await store.list(prefix)).revision
    async with store.watch(prefix, after=start) as changes:
        victim = using(store, cluster)
        victim.pause()
        with anyio.fail_after(2), pytest.raises(RegistryUnavailable, match="silent"):
            await anext(changes)
    assert using(store, cluster) is not victim
    await until_it_works(lambda: store.list(prefix), within=6)
    async with store.watch(prefix, after=start) as changes:
        revision = await store.put({prefix: b""}, lease=0)
        assert (await take(changes))[0].revision == revision
    victim.resume()


async def test_first_endpoints_dead(etcd: EtcdProcess, make_store, prefix: str) -> None:
    dead = [f"127.0.0.1:{port}" for port in free_ports(2)]
    store = make_store(*dead, etcd.endpoint)
    began = time.monotonic()
    await store.list(prefix)
    assert time.monotonic() - began < 1.0
    assert f"127.0.0.1:{store.peer[1]}" == etcd.endpoint


async def test_wiped_store_ends_watches_and_refuses_to_resume_them(
    own_etcd: EtcdProcess, make_store, prefix: str
) -> None:
    store = make_store(own_etcd.endpoint)
    for _ in range(5):
        last = await store.put({prefix: b""}, lease=0)
    await store.list(prefix)
    async with store.watch(prefix, after=last) as changes:
        await anyio.to_thread.run_sync(lambda: own_etcd.restart(wipe=True))
        with anyio.fail_after(2), pytest.raises(RegistryUnavailable):
            await anext(changes)
    with anyio.fail_after(2), pytest.raises(Compacted, match="is at revision 1"):
        async with store.watch(prefix, after=last) as changes:
            await anext(changes)
    assert (await store.list(prefix)).items == ()


async def test_watch_that_goes_back_in_revision_raises(store: EtcdStore, prefix: str) -> None:
    """A restored snapshot under a living connection; etcd itself would have to lie for that."""
    start = (await store.list(prefix)).revision
    async with store.watch(prefix, after=start) as batches:
        [changes] = batches._watches
        with pytest.raises(Compacted, match="went back"):
            changes.take(rpc.WatchResponse(header=rpc.ResponseHeader(revision=start - 1)))


async def test_another_cluster_is_noticed(etcd: EtcdProcess, make_store, prefix: str) -> None:
    with EtcdProcess(name="other", flags=("--initial-cluster-token", "other")) as other:
        store = make_store(etcd.endpoint, other.endpoint)
        await store.list(prefix)
        await store._session.rotate(store._session._member)
        with pytest.raises(Compacted, match="another cluster"):
            async with store.watch(prefix, after=0):
                raise AssertionError("not reached")


async def test_member_without_a_leader_says_so(
    cluster: list[EtcdProcess], make_store, prefix: str
) -> None:
    """`hasleader` on requests and streams: a member cut off refuses, it does not keep silent."""
    store = make_store(cluster[0].endpoint, timeout=6.0, probe_interval=30.0)
    grant = await store.grant(60)
    start = (await store.list(prefix)).revision
    async with store.watch(prefix, after=start) as changes:
        for member in cluster[1:]:
            await anyio.to_thread.run_sync(member.kill)
        with anyio.fail_after(10), pytest.raises(RegistryUnavailable, match="no leader"):
            await anext(changes)
    for operation in (lambda: store.list(prefix), lambda: store.renew(grant.lease)):
        with anyio.fail_after(1), pytest.raises(RegistryUnavailable, match="no leader"):
            await operation()


async def test_something_else_than_etcd_at_that_port(make_store) -> None:
    async def answer(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            await stream.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    store = make_store(f"127.0.0.1:{port}")
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, answer)
        with anyio.fail_after(4), pytest.raises(RegistryError):
            await store.list("a")
        group.cancel_scope.cancel()
