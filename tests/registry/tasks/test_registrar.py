import asyncio
import itertools
import random

import anyio
import pytest

from meshkit.discovery import RegistrationState
from meshkit.errors import ConfigError, MeshClosedError, RegistryAuthError, RegistryUnavailable
from meshkit.events import (
    EndpointRegistered,
    EndpointWithdrawn,
    LeaseLost,
    LeaseUnconfirmed,
    RegistrationPending,
    RegistryConnected,
    RegistryDisconnected,
    RegistryRefused,
    TaskCrashed,
)
from meshkit.registry.outage import loop_time
from tests.registry.tasks.fakes import Bench, endpoint, key

pytestmark = pytest.mark.anyio

PENDING, ANNOUNCED = RegistrationState.PENDING, RegistrationState.ANNOUNCED
UNCONFIRMED, WITHDRAWN = RegistrationState.UNCONFIRMED, RegistrationState.WITHDRAWN
LOST = RegistrationState.LOST
TTL = 15.0
BACK_WITHIN = TTL / 3 + 1.0


def refused_connection():
    return RegistryUnavailable("connect refused")


def refused():
    return RegistryAuthError("permission denied")


async def until(condition, *, within: float) -> float:
    """Seconds until `condition()` held, in virtual time."""
    began = loop_time()
    while not condition():
        assert loop_time() - began < within, "it took too long"
        await anyio.sleep(0.01)
    return loop_time() - began


async def test_endpoints_stand_under_one_lease_when_register_returns(bench: Bench):
    registration = await bench.registry.register([endpoint("a"), endpoint("a", "other")])
    lease = bench.registry.status().lease
    assert await bench.store.keys() == {key("a"): lease.id, key("a", "other"): lease.id}
    assert registration.state is ANNOUNCED
    assert len(bench.store.times("put")) == 1, "all in one transaction"
    assert repr(registration) == "<Registration hello@a:50051, other@a:50051: announced>"
    assert bench.events == [
        EndpointRegistered(endpoint("a"), bench.store.name, lease.id, again=False, outage=0.0),
        EndpointRegistered(
            endpoint("a", "other"), bench.store.name, lease.id, again=False, outage=0.0
        ),
    ]


async def test_whoever_leaves_says_so_before_the_key_goes(bench: Bench):
    registration = await bench.registry.register([endpoint("a")])
    listing = await bench.store.list("")
    async with bench.store.watch("", after=listing.revision) as batches:
        assert await registration.withdraw()
        [said] = (await anext(batches)).changes
        [gone] = (await anext(batches)).changes
    assert b'"state":"draining"' in said.value
    assert (gone.key, gone.value) == (said.key, None)


async def test_registrations_come_and_go_while_the_lease_lives(bench: Bench):
    first = await bench.registry.register([endpoint("a")])
    second = await bench.registry.register([endpoint("b", "other")])
    assert len(bench.store.times("grant")) == 1
    assert await first.withdraw()
    assert set(await bench.store.keys()) == {key("b", "other")}
    assert (first.state, second.state) == (WITHDRAWN, ANNOUNCED)
    assert not bench.store.times("revoke")
    await anyio.sleep(60)
    assert set(await bench.store.keys()) == {key("b", "other")}
    assert len(bench.store.times("put")) == 3, "each was written once, and one said it leaves"


async def test_the_last_one_ends_the_lease(bench: Bench):
    registration = await bench.registry.register([endpoint("a")])
    assert await registration.withdraw()
    assert await bench.store.keys() == {}
    assert len(bench.store.times("revoke")) == 1
    assert bench.events[-1] == EndpointWithdrawn(endpoint("a"), bench.store.name, confirmed=True)
    calls = len(bench.store.calls)
    await anyio.sleep(3600)
    assert len(bench.store.calls) == calls, "nothing is renewed afterwards"
    assert bench.registry.status().lease is None


async def test_withdrawing_twice_is_fine(bench: Bench):
    registration = await bench.registry.register([endpoint("a")])
    assert await registration.withdraw()
    assert await registration.withdraw()
    assert len(bench.events.of(EndpointWithdrawn)) == 1


async def test_an_endpoint_may_be_registered_again(bench: Bench):
    first = await bench.registry.register([endpoint("a")])
    await first.withdraw()
    second = await bench.registry.register([endpoint("a")])
    assert (first.state, second.state) == (WITHDRAWN, ANNOUNCED)
    assert set(await bench.store.keys()) == {key("a")}


async def test_the_lease_is_renewed_at_a_third_of_its_time(bench: Bench):
    await bench.registry.register([endpoint("a")])
    await anyio.sleep(600)
    renewals = [0.0, *bench.store.times("renew")]
    gaps = [later - earlier for earlier, later in itertools.pairwise(renewals)]
    assert all(TTL / 3 * 0.9 <= gap <= TTL / 3 + 0.01 for gap in gaps)
    assert len(set(gaps)) > 50, "with jitter"
    assert len(bench.store.times("grant")) == 1


async def test_no_answer_is_not_a_lost_lease(bench: Bench):
    registration = await bench.registry.register([endpoint("a")])
    lease = bench.registry.status().lease
    bench.store.faults["renew"] = "late"  # renewed in truth, but we are never told
    await until(lambda: registration.state is UNCONFIRMED, within=TTL + 0.1)
    await anyio.sleep(60)
    (event,) = bench.events.of(LeaseUnconfirmed)
    assert event.lease == lease.id
    assert TTL <= event.silent_for <= TTL + TTL / 4 + 1
    assert bench.registry.status().lease.left < 0
    bench.store.faults.clear()
    await until(lambda: registration.state is ANNOUNCED, within=BACK_WITHIN)
    assert bench.registry.status().lease.id == lease.id
    assert not bench.events.of(LeaseLost)
    assert len(bench.store.times("put")) == 1


async def test_each_silence_is_told_once(bench: Bench):
    await bench.registry.register([endpoint("a")])
    for _ in range(2):
        bench.store.faults["renew"] = "late"
        await anyio.sleep(60)
        bench.store.faults.clear()
        await anyio.sleep(60)
    assert len(bench.events.of(LeaseUnconfirmed)) == 2
    assert len(bench.events.of(RegistryDisconnected)) == 2
    assert len(bench.events.of(RegistryConnected)) == 2


async def test_a_short_outage_leaves_everything_as_it_is(bench: Bench):
    registration = await bench.registry.register([endpoint("a")])
    bench.store.go_down()
    await anyio.sleep(9)
    assert registration.state is ANNOUNCED
    bench.store.come_back()
    await anyio.sleep(60)
    assert len(bench.store.times("grant")) == 1
    assert not bench.events.of(LeaseUnconfirmed, LeaseLost)


async def test_down_for_an_hour_and_back(bench: Bench):
    registration = await bench.registry.register([endpoint("a"), endpoint("a", "other")])
    first = bench.registry.status().lease.id
    bench.store.go_down()
    await anyio.sleep(3600)
    assert registration.state is UNCONFIRMED
    assert len(bench.store.times("renew")) < 3600 * 4
    assert await bench.store.keys() == {}
    bench.store.come_back()
    await until(lambda: registration.state is ANNOUNCED, within=BACK_WITHIN)
    assert len(await bench.store.keys()) == 2
    (lost,) = bench.events.of(LeaseLost)
    assert lost.lease == first
    assert lost.held_for == pytest.approx(3600, abs=10)
    registered = bench.events.of(EndpointRegistered)
    assert [event.again for event in registered] == [False, False, True, True]
    assert [event.outage for event in registered[:2]] == [0.0, 0.0]
    assert registered[2].outage == registered[3].outage == pytest.approx(3600, abs=6)
    assert len(bench.events.of(LeaseUnconfirmed)) == 1
    await anyio.sleep(1)
    (disconnected,) = bench.events.of(RegistryDisconnected)
    assert disconnected.reason == "connect refused"
    (connected,) = bench.events.of(RegistryConnected)
    assert connected.outage == pytest.approx(3596, abs=6)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("fault", ["hang", "refuse"])
async def test_wiped_while_away_is_announced_again_in_time(bench: Bench, fault, seed):
    registration = await bench.registry.register([endpoint("a")])
    await anyio.sleep(seed * 1.7)
    bench.store.faults["*"] = "hang" if fault == "hang" else refused_connection
    await anyio.sleep(40 + seed * 0.3)
    bench.store.inner.wipe()
    bench.store.come_back()
    await until(lambda: registration.state is ANNOUNCED, within=BACK_WITHIN)


@pytest.mark.parametrize("ttl", [2.0, 3.0, 6.0, 9.0, 12.0, 15.0, 30.0])
@pytest.mark.parametrize("fault", ["hang", refused_connection], ids=["hang", "refuse"])
async def test_announced_again_in_time_whatever_the_ttl(bench: Bench, ttl, fault):
    worst = 0.0
    for seed in range(20):
        registry = bench.make(ttl=ttl, rng=random.Random(seed))
        registration = await registry.register([endpoint(f"e{seed}")])
        await anyio.sleep(seed * 0.37)
        bench.store.faults["*"] = fault
        await anyio.sleep(3 * ttl + seed * 0.31)
        bench.store.inner.wipe()
        bench.store.come_back()
        took = await until(lambda r=registration: r.state is ANNOUNCED, within=3 * ttl)
        worst = max(worst, took)
        await registry.aclose()
    assert worst <= ttl / 3 + 1.0


@pytest.mark.parametrize("ttl", [2.0, 3.0, 4.0, 5.0, 6.0])
async def test_a_slow_registry_is_one_with_a_short_ttl_too(bench: Bench, ttl):
    bench.store.inner.delay(0.9)
    registry = bench.make(ttl=ttl)
    registration = await registry.register([endpoint("a")])
    assert registration.state is ANNOUNCED
    await anyio.sleep(600)
    assert not bench.events.of(LeaseLost, RegistryDisconnected)
    bench.store.inner.heal()
    await registry.aclose()


async def test_those_that_come_back_together_do_not_come_at_once(bench: Bench):
    registries = [bench.make(rng=random.Random(n)) for n in range(100)]
    for n, registry in enumerate(registries):
        await registry.register([endpoint(f"e{n}")])
    bench.store.go_down()
    await anyio.sleep(60)
    bench.store.inner.wipe()
    before = len(bench.store.calls)
    bench.store.come_back()
    await anyio.sleep(BACK_WITHIN)
    assert len(await bench.store.keys()) == 100
    grants = [int(when * 10) for when, call in bench.store.calls[before:] if call == "grant"]
    assert len(grants) == 100
    assert max(grants.count(tenth) for tenth in set(grants)) <= 25, "of 100 in a tenth of a second"
    for registry in registries:
        await registry.aclose()


async def test_wiped_unnoticed_is_announced_again(bench: Bench):
    registration = await bench.registry.register([endpoint("a")])
    await anyio.sleep(12)
    bench.store.inner.wipe()
    await until(lambda: registration.state is LOST, within=TTL / 3)
    await until(lambda: registration.state is ANNOUNCED, within=1.0)
    assert set(await bench.store.keys()) == {key("a")}
    assert not bench.events.of(RegistryDisconnected), "it was lost, not away"


async def test_a_lease_found_gone_by_a_put_takes_everything_along(bench: Bench):
    first = await bench.registry.register([endpoint("a")])
    bench.store.inner.wipe()
    second = await bench.registry.register([endpoint("b")])
    assert (first.state, second.state) == (ANNOUNCED, ANNOUNCED)
    assert set(await bench.store.keys()) == {key("a"), key("b")}
    assert len(bench.events.of(LeaseLost)) == 1


async def test_leases_that_die_at_once_make_no_storm(bench: Bench):
    from meshkit.registry.store import LeaseGone

    bench.store.faults["put"] = lambda: LeaseGone("gone")
    registration = await bench.registry.register([endpoint("a")], required=False)
    assert registration.state is PENDING
    await anyio.sleep(60)
    assert 60 < len(bench.store.times("grant")) < 200
    bench.store.faults.clear()
    await until(lambda: registration.state is ANNOUNCED, within=BACK_WITHIN)


@pytest.mark.parametrize("method", ["grant", "put"])
@pytest.mark.parametrize("fault", ["hang", refused_connection])
async def test_register_fails_when_its_time_is_over(bench: Bench, method, fault):
    bench.store.faults[method] = fault
    with pytest.raises(RegistryUnavailable) as caught:
        await bench.registry.register([endpoint("a"), endpoint("b", "other")], timeout=4.5)
    assert loop_time() == pytest.approx(4.5)
    reason = "no answer within 3.75 s" if fault == "hang" else "connect refused"
    assert str(caught.value) == (
        f"hello, other could not be registered at fake://registry within 4.5 s: {reason}. "
        "Next: check that the registry runs and can be reached from here, "
        "or serve without it until it comes: require_registration=False"
    )
    assert bench.registry.status().registrations == ()
    bench.store.faults.clear()
    await anyio.sleep(60)
    assert await bench.store.keys() == {}, "nobody would withdraw it"
    assert not bench.events.of(RegistrationPending, EndpointRegistered)


async def test_register_with_the_registry_back_in_time(bench: Bench):
    bench.store.go_down()
    asyncio.get_running_loop().call_later(3.0, bench.store.come_back)
    registration = await bench.registry.register([endpoint("a")])
    assert registration.state is ANNOUNCED
    assert 3.0 <= loop_time() <= 5.0


@pytest.mark.parametrize("method", ["grant", "put"])
@pytest.mark.parametrize(("fault", "at"), [("hang", 3.75), (refused_connection, 0.0)])
async def test_what_is_not_required_is_pending_at_the_first_trouble(
    bench: Bench, method, fault, at
):
    bench.store.faults[method] = fault
    registration = await bench.registry.register([endpoint("a"), endpoint("b")], required=False)
    assert loop_time() == pytest.approx(at, abs=0.01)
    assert registration.state is PENDING
    (pending,) = bench.events.of(RegistrationPending)
    assert pending.services == ("hello",)
    assert pending.reason in {"no answer within 3.75 s", "connect refused"}
    later = await bench.registry.register([endpoint("c")], required=False)
    assert loop_time() == pytest.approx(at, abs=0.01), "in the same trouble"
    await anyio.sleep(30)
    bench.store.faults.clear()
    await until(lambda: later.state is ANNOUNCED, within=BACK_WITHIN)
    assert bench.events.of(EndpointRegistered)[0].outage == pytest.approx(30 + at, abs=6)
    await until(lambda: registration.state is ANNOUNCED, within=BACK_WITHIN)
    assert len(bench.events.of(RegistryDisconnected)) == 1


async def test_what_is_not_required_waits_no_longer_than_asked_to(bench: Bench):
    bench.store.faults["grant"] = "hang"
    registration = await bench.registry.register([endpoint("a")], timeout=1.0, required=False)
    assert loop_time() == pytest.approx(1.0)
    (pending,) = bench.events.of(RegistrationPending)
    assert pending.reason == "no answer yet"
    assert registration.state is PENDING


async def test_withdraw_while_a_grant_hangs(bench: Bench):
    bench.store.faults["grant"] = "hang"
    registration = await bench.registry.register([endpoint("a")], required=False)
    began = loop_time()
    assert await registration.withdraw(), "nothing was ever written"
    assert loop_time() == began
    bench.store.faults.clear()
    await anyio.sleep(60)
    assert await bench.store.keys() == {}
    assert bench.registry.status().lease is None


async def test_withdraw_while_a_put_hangs_that_was_done(bench: Bench):
    bench.store.faults["put"] = "late"
    registration = await bench.registry.register([endpoint("a")], required=False)
    assert registration.state is PENDING
    assert set(await bench.store.keys()) == {key("a")}
    began = loop_time()
    confirmed = await registration.withdraw()
    assert loop_time() - began <= 2.0
    assert bench.events[-1] == EndpointWithdrawn(endpoint("a"), bench.store.name, confirmed)
    await anyio.sleep(BACK_WITHIN)
    assert await bench.store.keys() == {}


async def test_what_was_perhaps_written_is_deleted_under_a_living_lease(bench: Bench):
    await bench.registry.register([endpoint("a")])
    bench.store.faults["put"] = "late"
    registration = await bench.registry.register([endpoint("b")], timeout=0, required=False)
    assert not await registration.withdraw(), "the put is still under way"
    assert set(await bench.store.keys()) == {key("a"), key("b")}
    bench.store.faults.clear()
    await anyio.sleep(BACK_WITHIN)
    assert set(await bench.store.keys()) == {key("a")}


async def test_a_failing_farewell_is_no_outage(bench: Bench):
    registration = await bench.registry.register([endpoint("a")])
    bench.store.faults["revoke"] = refused_connection
    assert not await registration.withdraw()
    assert not bench.events.of(RegistryDisconnected)


async def test_a_slow_answer_takes_from_the_time_that_is_certain(bench: Bench):
    async def renew(lease):
        ttl = await bench.store.inner.renew(lease)
        await anyio.sleep(3)
        return ttl

    await bench.registry.register([endpoint("a")])
    bench.store.renew = renew
    left = []
    for _ in range(900):
        await anyio.sleep(0.1)
        left.append(bench.registry.status().lease.left)
    assert max(left[100:]) <= TTL - 3


async def test_withdraw_from_a_hung_registry_is_bounded(bench: Bench):
    registration = await bench.registry.register([endpoint("a")])
    bench.store.faults["*"] = "hang"
    began = loop_time()
    assert not await registration.withdraw()
    assert loop_time() - began == pytest.approx(2.0)
    assert not await registration.withdraw(), "still not confirmed"
    assert len(bench.events.of(EndpointWithdrawn)) == 1


async def test_withdraw_from_a_dead_registry_raises_nothing_and_gives_up(bench: Bench):
    registration = await bench.registry.register([endpoint("a")])
    other = await bench.registry.register([endpoint("b")])
    bench.store.go_down()
    assert not await registration.withdraw()
    assert not await other.withdraw()
    await anyio.sleep(2 * TTL)
    assert bench.registry.status().lease is None
    assert bench.registry.status().connected, "nobody is left who could not follow"
    calls = len(bench.store.calls)
    await anyio.sleep(60)
    assert len(bench.store.calls) == calls, "the lease's end did it"


async def test_one_of_two_withdraws_during_an_outage(bench: Bench):
    leaving = await bench.registry.register([endpoint("a")])
    staying = await bench.registry.register([endpoint("b")])
    bench.store.go_down()
    assert not await leaving.withdraw()
    bench.store.come_back()
    await anyio.sleep(BACK_WITHIN)
    assert set(await bench.store.keys()) == {key("b")}
    assert staying.state is ANNOUNCED


async def test_withdraw_is_done_although_its_caller_is_cancelled(bench: Bench):
    registration = await bench.registry.register([endpoint("a")])
    with anyio.CancelScope() as scope:
        scope.cancel()
        await registration.withdraw()
    assert bench.events[-1] == EndpointWithdrawn(endpoint("a"), bench.store.name, confirmed=True)
    assert await bench.store.keys() == {}


async def test_a_cancelled_register_leaves_nothing_behind(bench: Bench):
    bench.store.faults["put"] = "late"
    with anyio.move_on_after(1.0):
        await bench.registry.register([endpoint("a")])
    bench.store.faults.clear()
    await anyio.sleep(BACK_WITHIN)
    assert await bench.store.keys() == {}
    assert bench.registry.status().registrations == ()


@pytest.mark.parametrize("method", ["grant", "put"])
async def test_a_refusal_at_first_is_raised_and_taken_back(bench: Bench, method):
    bench.store.faults[method] = refused
    with pytest.raises(RegistryAuthError, match="permission denied"):
        await bench.registry.register([endpoint("a")])
    assert loop_time() < 1.0
    await anyio.sleep(60)
    assert len(bench.store.times(method)) == 1
    assert bench.registry.status().lease is None
    assert bench.events == []
    bench.store.faults.clear()
    assert (await bench.registry.register([endpoint("a")])).state is ANNOUNCED


async def test_a_store_that_cannot_be_used_is_told_by_register(bench: Bench):
    bench.store.faults["grant"] = lambda: ConfigError("not in a directory of your own")
    with pytest.raises(ConfigError, match="directory of your own"):
        await bench.registry.register([endpoint("a")])


async def test_a_refused_service_does_not_harm_the_others(bench: Bench):
    first = await bench.registry.register([endpoint("a")])
    bench.store.faults["put"] = refused
    with pytest.raises(RegistryAuthError):
        await bench.registry.register([endpoint("b", "secret")])
    await anyio.sleep(60)
    assert first.state is ANNOUNCED
    assert len(bench.store.times("put")) == 2
    assert not bench.store.times("delete"), "what was refused does not stand"
    assert not bench.events.of(RegistryDisconnected, RegistryRefused)


async def test_a_later_refusal_is_tried_for_ever_and_told_once(bench: Bench):
    registration = await bench.registry.register([endpoint("a")])
    bench.store.faults["*"] = refused
    await anyio.sleep(600)
    assert len(bench.events.of(RegistryRefused)) == 1
    assert len(bench.events.of(RegistryDisconnected)) == 1
    bench.store.come_back()
    await until(lambda: registration.state is ANNOUNCED, within=BACK_WITHIN)
    await anyio.sleep(1)
    bench.store.faults["*"] = refused
    await anyio.sleep(60)
    assert len(bench.events.of(RegistryRefused)) == 2


async def test_a_refusal_of_what_is_pending_is_tried_for_ever(bench: Bench):
    bench.store.go_down()
    registration = await bench.registry.register([endpoint("a")], required=False)
    bench.store.faults["*"] = refused
    await anyio.sleep(60)
    assert registration.state is PENDING
    assert len(bench.events.of(RegistryRefused)) == 1
    bench.store.come_back()
    await until(lambda: registration.state is ANNOUNCED, within=BACK_WITHIN)


async def test_a_bug_in_the_loop_costs_nothing_that_stands(bench: Bench):
    registration = await bench.registry.register([endpoint("a")])
    lease = bench.registry.status().lease.id
    bench.store.faults["renew"] = lambda: RuntimeError("a bug")
    await anyio.sleep(6)
    assert bench.events.of(TaskCrashed)
    bench.store.faults.clear()
    await anyio.sleep(60)
    assert registration.state is ANNOUNCED
    assert bench.registry.status().lease.id == lease


async def test_what_cannot_be_registered(bench: Bench):
    await bench.registry.register([endpoint("a")])
    for wrong in ([], [endpoint("a")], [endpoint("b"), endpoint("b")], [endpoint("a b")]):
        with pytest.raises(ConfigError):
            await bench.registry.register(wrong)
    assert set(await bench.store.keys()) == {key("a")}
    await bench.registry.aclose()
    with pytest.raises(MeshClosedError):
        await bench.registry.register([endpoint("c")])


async def test_a_longer_ttl_of_the_store_is_taken(bench: Bench):
    from meshkit.registry.store import Grant

    async def grant(ttl):
        return Grant((await bench.store.inner.grant(60.0)).lease, 60.0)

    bench.store.grant = grant
    await bench.registry.register([endpoint("a")])
    await anyio.sleep(17)
    assert bench.store.times("renew") == []
    await anyio.sleep(4)
    assert len(bench.store.times("renew")) == 1
