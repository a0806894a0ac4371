"""What happens to our keys by the hands of others is noticed, told apart and repaired."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

import anyio
import pytest

from meshkit.discovery import RegistrationState
from meshkit.endpoint import Endpoint
from meshkit.errors import RegistryAuthError, RegistryError
from meshkit.events import (
    EndpointKeyDeleted,
    EndpointRegistered,
    EndpointTakenOver,
    LeaseLost,
    RegistryDisconnected,
)
from meshkit.registry.layouts import Etcd3NamingLayout, MeshkitLayout
from meshkit.registry.outage import loop_time
from meshkit.registry.store import Batch, KeyValue
from tests.registry.tasks.fakes import Bench, down, endpoint, key, names

pytestmark = pytest.mark.anyio

ANNOUNCED, LOST = RegistrationState.ANNOUNCED, RegistrationState.LOST
TTL = 15.0
NOTICED = TTL / 3 + 0.1


def value(name: str) -> bytes:
    return MeshkitLayout().encode("default", endpoint(name))[1]


def unconditional(method: Callable[..., Awaitable[int]], refusal: RegistryError):
    """`method` as a store lets those use it who may write and not read."""

    async def ask(what, *, lease: int | None = None, if_held: bool = False) -> int:
        if if_held or (lease is not None and not isinstance(what, Mapping)):
            raise refusal
        return await method(what, lease=lease)

    return ask


async def changes_until_deleted(
    batches: AsyncIterator[Batch], name: str
) -> AsyncIterator[KeyValue]:
    async for batch in batches:
        for change in batch.changes:
            yield change
            if change == KeyValue(name, None):
                return


async def test_a_key_deleted_by_hand_is_written_again(bench: Bench):
    registration = await bench.registry.register([endpoint("a"), endpoint("a", "other")])
    lease = bench.registry.status().lease.id
    await anyio.sleep(7)
    bench.store.inner.erase(key("a"))
    began = loop_time()
    with anyio.fail_after(NOTICED):
        while key("a") not in await bench.store.keys():
            await anyio.sleep(0.01)
    noticed = loop_time() - began
    assert await bench.store.keys() == {key("a"): lease, key("a", "other"): lease}
    assert registration.state is ANNOUNCED
    assert bench.events.of(EndpointKeyDeleted, EndpointTakenOver, LeaseLost) == [
        EndpointKeyDeleted(endpoint("a"), bench.store.name)
    ]
    *_, again = bench.events.of(EndpointRegistered)
    assert len(bench.events.of(EndpointRegistered)) == 3, "only the one that was gone"
    assert (again.endpoint, again.again, again.lease) == (endpoint("a"), True, lease)
    assert noticed <= again.outage <= noticed + TTL / 3
    await anyio.sleep(60)
    assert len(bench.events.of(EndpointKeyDeleted)) == 1


async def test_a_key_that_we_deleted_and_that_is_back_is_deleted_again(bench: Bench):
    await bench.registry.register([endpoint("a")])
    leaving = await bench.registry.register([endpoint("b")])
    backup = bench.store.inner.backup()
    assert await leaving.withdraw()
    assert set(await bench.store.keys()) == {key("a")}
    bench.store.inner.restore(backup)
    assert set(await bench.store.keys()) == {key("a"), key("b")}
    await anyio.sleep(NOTICED)
    assert set(await bench.store.keys()) == {key("a")}
    # Of somebody else it is none of our business.
    other = await bench.store.inner.grant(60.0)
    bench.store.inner.overwrite(key("b"), value("b"), lease=other.lease)
    await anyio.sleep(2 * NOTICED)
    assert set(await bench.store.keys()) == {key("a"), key("b")}


async def test_a_lease_revoked_from_outside_is_no_deletion_by_hand(bench: Bench):
    registration = await bench.registry.register([endpoint("a"), endpoint("a", "other")])
    first = bench.registry.status().lease.id
    bench.store.inner.end_lease(first)
    await anyio.sleep(NOTICED + 1.0)
    assert registration.state is ANNOUNCED
    second = bench.registry.status().lease.id
    assert await bench.store.keys() == {key("a"): second, key("a", "other"): second}
    [lost] = bench.events.of(LeaseLost)
    assert lost.lease == first
    assert not bench.events.of(EndpointKeyDeleted, EndpointTakenOver)
    assert len(bench.store.times("put")) == 2, "all in one transaction"


async def test_a_deletion_and_then_a_revocation_is_told_as_the_latter(bench: Bench):
    registration = await bench.registry.register([endpoint("a")])
    lease = bench.registry.status().lease.id
    bench.store.inner.erase(key("a"))
    bench.store.faults["put"] = down
    await anyio.sleep(NOTICED)
    assert registration.state is LOST
    bench.store.inner.end_lease(lease)
    bench.store.faults.clear()
    await anyio.sleep(NOTICED)
    assert registration.state is ANNOUNCED
    assert len(bench.events.of(LeaseLost)) == 1
    assert not bench.events.of(EndpointKeyDeleted)


async def test_a_key_that_another_owner_took_is_left_to_it(bench: Bench):
    registration = await bench.registry.register([endpoint("a"), endpoint("a", "other")])
    ours = bench.registry.status().lease.id
    theirs = (await bench.store.inner.grant(1000)).lease
    with bench.make().watch("hello") as watch:
        await bench.store.inner.put({key("a"): value("b")}, lease=theirs)
        await anyio.sleep(NOTICED)
        new = registration.endpoints[0].id
        assert new != "a"
        assert [e.id for e in registration.endpoints] == [new, new]
        assert registration.state is ANNOUNCED
        assert await bench.store.keys() == {
            key("a"): theirs,
            key(new): ours,
            key(new, "other"): ours,
        }
        assert {e.id: e.address for e in watch.latest.value.endpoints} == {
            "a": "b:50051",
            new: "a:50051",
        }
    assert bench.events.of(EndpointTakenOver, EndpointKeyDeleted, LeaseLost) == [
        EndpointTakenOver(endpoint("a"), bench.store.name, "b:50051", theirs)
    ]
    assert 0 < bench.events.of(EndpointRegistered)[-1].outage <= NOTICED
    assert await registration.withdraw()
    assert await bench.store.keys() == {key("a"): theirs}, "theirs is not ours to delete"


async def test_two_with_one_key_do_not_fight(bench: Bench):
    both = [bench.registry, bench.make()]
    taken = [endpoint("x"), Endpoint(service="hello", id="x", address="y:50051")]
    for registry, mine in zip(both, taken, strict=True):
        await registry.register([mine])
    await anyio.sleep(600)
    assert len(await bench.store.keys()) == 2
    assert len(bench.store.times("put")) == 3
    assert len(bench.events.of(EndpointTakenOver)) == 1
    with bench.registry.watch("hello") as watch:
        await anyio.sleep(0.1)
        assert {e.address for e in watch.latest.value.endpoints} == {"x:50051", "y:50051"}
    await both[1].aclose()


@pytest.mark.parametrize(("written", "by"), [(value("b"), "b:50051"), (b"?", "")])
async def test_a_value_without_a_lease_is_written_over(bench: Bench, written, by):
    registration = await bench.registry.register([endpoint("a")])
    lease = bench.registry.status().lease.id
    bench.store.inner.overwrite(key("a"), written)
    await anyio.sleep(NOTICED)
    assert await bench.store.keys() == {key("a"): lease}
    assert registration.endpoints == (endpoint("a"),)
    assert bench.events.of(EndpointTakenOver) == [
        EndpointTakenOver(endpoint("a"), bench.store.name, by, 0)
    ]
    assert bench.events.of(EndpointTakenOver)[0].details()["lease"] == "0"


async def test_a_value_under_our_own_lease_is_written_over(bench: Bench):
    registration = await bench.registry.register([endpoint("a")])
    lease = bench.registry.status().lease.id
    bench.store.inner.overwrite(key("a"), value("b"), lease=lease)
    await anyio.sleep(NOTICED)
    assert bench.store.inner.entries()[key("a")].value == value("a")
    assert registration.endpoints == (endpoint("a"),)
    assert len(bench.events.of(EndpointTakenOver)) == 1


async def test_where_the_key_is_the_address_it_is_ours_and_told_once(bench: Bench):
    registry = bench.make(layout=Etcd3NamingLayout())
    registration = await registry.register([endpoint("a")])
    lease, theirs = registry.status().lease.id, (await bench.store.inner.grant(1000)).lease
    (name,) = registration.entries
    for _ in range(3):
        bench.store.inner.overwrite(name, b"b:50051", lease=theirs)
        await anyio.sleep(NOTICED)
        assert await bench.store.keys() == {name: lease}
    assert len(bench.events.of(EndpointTakenOver)) == 1
    await registry.aclose()


async def test_a_key_taken_while_it_is_withdrawn_is_let_go(bench: Bench):
    staying = await bench.registry.register([endpoint("b")])
    registration = await bench.registry.register([endpoint("a")])
    theirs = (await bench.store.inner.grant(1000)).lease
    bench.store.inner.overwrite(key("a"), value("c"), lease=theirs)
    bench.store.faults["read"] = "late"
    await anyio.sleep(NOTICED)
    assert not await registration.withdraw(), "the registry is silent"
    bench.store.faults.clear()
    await anyio.sleep(NOTICED)
    assert staying.state is ANNOUNCED
    assert key("b") in await bench.store.keys()
    assert not bench.events.of(EndpointKeyDeleted)


async def test_last_words_are_not_written_over_those_of_another_owner(bench: Bench):
    """Nor is its key deleted: it took it a moment ago, and nobody looked since."""
    staying = await bench.registry.register([endpoint("b")])
    registration = await bench.registry.register([endpoint("a"), endpoint("a", "other")])
    theirs = (await bench.store.inner.grant(1000)).lease
    bench.store.inner.overwrite(key("a"), value("c"), lease=theirs)
    after = (await bench.store.inner.list("")).revision
    async with bench.store.inner.watch("", after=after) as batches:
        assert await registration.withdraw()
        seen = [change async for change in changes_until_deleted(batches, key("a", "other"))]
    assert [change.key for change in seen] == [key("a", "other")] * 2, "draining, and gone"
    assert await bench.store.keys() == {
        key("a"): theirs,
        key("b"): bench.registry.status().lease.id,
    }
    assert bench.store.inner.entries()[key("a")].value == value("c")
    assert staying.state is ANNOUNCED


async def test_all_keys_are_read_in_one_request_after_each_renewal(bench: Bench):
    await bench.registry.register([endpoint("a"), endpoint("a", "other")])
    await bench.registry.register([endpoint("b")])
    await anyio.sleep(600)
    assert len(bench.store.times("read")) == len(bench.store.times("renew"))
    assert len(bench.store.times("renew")) <= 600 / (TTL / 3 * 0.9) + 1


async def test_who_may_not_read_his_keys_keeps_them_all_the_same(bench: Bench):
    registration = await bench.registry.register([endpoint("a")])
    bench.store.faults["read"] = lambda: RegistryAuthError("permission denied")
    await anyio.sleep(600)
    assert registration.state is ANNOUNCED
    assert len(bench.store.times("read")) == len(bench.store.times("renew"))
    leaving = await bench.registry.register([endpoint("b")])
    refused = RegistryAuthError("permission denied")
    bench.store.inner.put = unconditional(bench.store.inner.put, refused)
    bench.store.inner.delete = unconditional(bench.store.inner.delete, refused)
    assert await leaving.withdraw(), "without a question whose it is, which would be a read"
    assert not bench.events.of(RegistryDisconnected)


async def test_keys_that_cannot_be_read_cost_no_renewal(bench: Bench):
    registration = await bench.registry.register([endpoint("a")])
    bench.store.faults["read"] = "hang"
    lease = bench.registry.status().lease.id
    for _ in range(120):
        await anyio.sleep(1)
        assert registration.state is ANNOUNCED
        assert bench.registry.status().lease.id == lease
    assert len(bench.events.of(RegistryDisconnected)) == 1
    bench.store.inner.erase(key("a"))
    bench.store.faults.clear()
    await anyio.sleep(NOTICED)
    assert len(bench.events.of(EndpointKeyDeleted)) == 1
    with bench.registry.watch("hello") as watch:
        await anyio.sleep(0.1)
        assert names(watch) == ["a"]
