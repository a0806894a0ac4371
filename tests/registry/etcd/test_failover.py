"""How soon a process is on another member, with the options that everybody has.

A silent watch is probed after 1.2 s at the most, and the probe fails 1 s later; a request leaves a
silent member after 0.7 s. If it was the leader, the others elect one meanwhile, within 2 s.
"""

import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from operator import attrgetter

import anyio
import pytest
from aetcd import rpc

from meshkit.errors import RegistryUnavailable
from meshkit.registry.etcd import EtcdOptions, EtcdStore
from meshkit.registry.store import Compacted
from meshkit.testing.cluster import etcd_cluster
from meshkit.testing.etcd import EtcdProcess
from tests.faults.peers import PeerNetwork

pytestmark = [pytest.mark.anyio, pytest.mark.etcd]

NOISE = 1.5  # seconds; the machine may have other things to do
STATUS = attrgetter("maintenance.Status")

Use = Callable[[EtcdStore, EtcdProcess], Awaitable[None]]


async def lists(store: EtcdStore, _: EtcdProcess) -> None:
    await store.list("a")


async def renews(store: EtcdStore, _: EtcdProcess) -> None:
    await store.renew(1)


async def watches(store: EtcdStore, hurt: EtcdProcess) -> None:
    """Silently for as long as the member that will be hurt bears it; elsewhere until it stands."""
    listing = await store.list("a")
    async with store.watch("a", after=listing.revision) as changes:
        if uses(store, hurt):
            await anext(changes)


def uses(store: EtcdStore, member: EtcdProcess) -> bool:
    return member.endpoint == f"127.0.0.1:{store.peer[1]}"


async def time_to_leave(hurt: EtcdProcess, others: Iterable[EtcdProcess], harm) -> dict[str, float]:
    """Seconds from `harm` until each use, with a session of its own, works on another member."""
    left_at: dict[str, float] = {}
    endpoints = (hurt.endpoint, *(member.endpoint for member in others))

    async def repeat(use: Use) -> None:
        store = EtcdStore(EtcdOptions(endpoints=endpoints), rng=random.Random(1))
        while not uses(store, hurt):
            await store._session.rotate(store._session._current())
        while True:
            try:
                await use(store, hurt)
                if not uses(store, hurt):
                    break
            except (RegistryUnavailable, Compacted):
                pass
            await anyio.sleep(0.05)
        left_at[use.__name__] = time.monotonic()
        await store.aclose()

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            for use in (lists, renews, watches):
                group.start_soon(repeat, use)
            await anyio.sleep(1.0)
            assert left_at == {}, "it was not hurt yet"
            began = time.monotonic()
            harm()
    return {name: at - began for name, at in left_at.items()}


@pytest.fixture(scope="module")
def cluster() -> Iterator[list[EtcdProcess]]:
    """One for all tests here: whoever is hurt is well again afterwards."""
    with etcd_cluster() as members:
        yield members


@pytest.fixture
async def network() -> AsyncIterator[PeerNetwork]:
    """A cluster whose members can be cut off from each other."""
    async with PeerNetwork(3) as network:
        yield network


async def leader_among(cluster: list[EtcdProcess], make_store) -> EtcdProcess:
    """The one that all others know, now that all are well."""
    stores = {member: make_store(member.endpoint) for member in cluster}
    with anyio.fail_after(15):
        while True:
            leaders = []
            for member, store in stores.items():
                with suppress(RegistryUnavailable):
                    await store.list("a")
                    status = await store._session.call(STATUS, rpc.StatusRequest())
                    leaders.append(member if status.leader == status.header.member_id else None)
            if len(leaders) == 3 and leaders.count(None) == 2:
                return next(member for member in leaders if member is not None)
            await anyio.sleep(0.1)


@pytest.mark.parametrize("leads", [True, False], ids=["leader", "follower"])
async def test_frozen_member_is_left_within_3_s(
    leads: bool, cluster: list[EtcdProcess], make_store
) -> None:
    leader = await leader_among(cluster, make_store)
    hurt = leader if leads else next(m for m in cluster if m is not leader)
    took = await time_to_leave(hurt, [m for m in cluster if m is not hurt], hurt.pause)
    hurt.resume()
    print({name: f"{seconds:.2f} s" for name, seconds in took.items()})
    # Votes that are split cost the others another election; that is their time, not ours.
    assert max(took.values()) <= (4.0 if leads else 3.0) + NOISE


@pytest.mark.parametrize("leads", [True, False], ids=["leader", "follower"])
async def test_member_cut_off_from_the_majority_is_left_within_5_s(
    leads: bool, network: PeerNetwork, make_store
) -> None:
    """It goes on answering, and knows of no leader."""
    leader = await leader_among(network.members, make_store)
    hurt = leader if leads else next(m for m in network.members if m is not leader)
    others = [member for member in network.members if member is not hurt]
    took = await time_to_leave(hurt, others, lambda: network.cut_off(hurt))
    alone = make_store(hurt.endpoint)
    with anyio.fail_after(5), pytest.raises(RegistryUnavailable):
        await alone.list("a")
    network.heal()
    print({name: f"{seconds:.2f} s" for name, seconds in took.items()})
    assert max(took.values()) <= 5.0 + NOISE
