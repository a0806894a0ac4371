"""Channels, endpoints and watches of a mesh."""

import asyncio
from contextlib import AsyncExitStack

import anyio
import grpc
import pytest

from examples.hello.helloworld_pb2 import HelloRequest
from examples.hello.helloworld_pb2_grpc import GreeterStub
from meshkit import (
    Channel,
    ConfigError,
    Maglev,
    Mesh,
    MeshClosedError,
    RegistryUnavailable,
    RingHash,
    RoundRobin,
    Sticky,
    ZoneAware,
)
from tests.leftover import no_task_is_left
from tests.mesh.greeters import AT_ONCE, Greeter, greet

pytestmark = pytest.mark.anyio


@pytest.fixture
async def mesh(request):
    async with Mesh(f"memory://{request.node.name}", hooks=[_no_crash]) as opened:
        yield opened


def _no_crash(event):
    assert event.name != "task.crashed", event


async def test_an_awaited_channel_is_shared_and_kept_until_the_mesh_closes(mesh):
    first = await mesh.channel("s", warm_up=0)
    assert isinstance(first, Channel)
    assert isinstance(first, grpc.aio.Channel)
    assert await mesh.channel("s", warm_up=0) is first
    async with mesh.channel("s", warm_up=0) as borrowed:
        assert borrowed is first
    assert not first.is_closed
    await mesh.aclose()
    assert first.is_closed


async def test_a_borrowed_channel_is_closed_with_its_last_holder(mesh):
    async with mesh.channel("s", warm_up=0) as first:
        async with mesh.channel("s", warm_up=0) as second:
            assert second is first
        assert not first.is_closed
    assert first.is_closed
    async with mesh.channel("s", warm_up=0) as third:
        assert third is not first


async def test_other_services_and_other_options_have_channels_of_their_own(mesh):
    async def open_all():
        return [
            await mesh.channel("s", warm_up=0, **how)
            for how in (
                {},
                {"policy": "round_robin"},
                {"policy": RoundRobin()},
                {"options": [("grpc.max_receive_message_length", 1)]},
                {"compression": grpc.Compression.Gzip},
                {"credentials": credentials},
            )
        ] + [await mesh.channel("t", warm_up=0)]

    credentials = grpc.ssl_channel_credentials()
    channels = await open_all()
    assert len(set(channels)) == 7
    assert await open_all() == channels
    assert len(mesh.status().channels) == 7


async def test_each_use_of_a_shared_channel_warms_up_as_long_as_it_says(mesh):
    began = anyio.current_time()
    first = await mesh.channel("s", warm_up=0)
    async with mesh.channel("s", warm_up=0.05) as borrowed:  # nobody is there to wait for
        assert borrowed is first
    assert await mesh.channel("s", warm_up=0.05) is first
    assert 0.0 <= anyio.current_time() - began < 1.0


async def test_a_channel_to_a_subset_connects_to_no_more(mesh):
    async with AsyncExitStack() as servers:
        for number in range(6):
            greeter = mesh.serve("s", Greeter(f"{number}"), quiet=AT_ONCE)
            await servers.enter_async_context(greeter)
        channel = await mesh.channel("s", subset=2, policy="round_robin")
        answered = [await greet(channel) for _ in range(10)]
        assert len(set(answered)) == 2
        status = channel.status()
        assert (len(status.endpoints), status.known, len(channel.endpoints())) == (2, 6, 6)
        assert repr(channel) == "<Channel 's': 2 ready of 6 | 0 in flight>"


async def test_calls_stay_in_the_zone():
    async with Mesh("memory://near", zone="eu-1") as mesh, AsyncExitStack() as servers:
        for number in range(6):
            zone = f"eu-{1 + number % 2}"
            greeter = mesh.serve("s", Greeter(zone), zone=zone, quiet=AT_ONCE)
            await servers.enter_async_context(greeter)
        channel = await mesh.channel("s")
        assert {await greet(channel) for _ in range(20)} == {"eu-1"}
        assert channel.status().zones == {"eu-1": 1.0}
        whole = await mesh.channel("s", zone_aware=ZoneAware(min_cluster_size=7))
        assert {await greet(whole) for _ in range(40)} == {"eu-1", "eu-2"}
        assert whole.status().zones == {}


async def test_a_policy_by_key_is_reached_by_name_and_by_value(mesh):
    async with AsyncExitStack() as servers:
        for number in range(4):
            greeter = mesh.serve("s", Greeter(f"{number}"), quiet=AT_ONCE)
            await servers.enter_async_context(greeter)
        for policy in (RingHash(key="x-user-id"), Maglev(key="x-user-id"), Sticky(key="x-user-id")):
            channel = await mesh.channel("s", policy=policy)
            stub = GreeterStub(channel)
            homes = []
            for user in ["ada", "bob", "cid", "dan"] * 3:
                reply = await stub.SayHello(HelloRequest(), metadata=[("x-user-id", user)])
                homes.append(reply.message)
            assert homes == homes[:4] * 3


async def test_a_subset_of_none_is_refused(mesh):
    with pytest.raises(ConfigError, match="subset_size: must be an integer of 1 or more, got 0"):
        mesh.channel("s", subset=0)


async def test_a_channel_that_its_user_closed_is_replaced_and_forgotten(mesh):
    async with mesh.channel("s", warm_up=0) as first:
        await first.close()
        second = await mesh.channel("s", warm_up=0)
        assert second is not first
    assert not second.is_closed
    for _ in range(3):
        async with mesh.channel("s", warm_up=0, options=[("x", id(object()))]):
            pass
    await mesh.channel("t", warm_up=0)
    assert len(mesh._lifetime.running.channels._shared) == 2


async def test_a_block_that_is_cancelled_while_it_opens_holds_nothing(mesh):
    async def borrow():
        async with mesh.channel("nobody", warm_up=60, policy="round_robin"):
            raise AssertionError("there is nobody")

    await mesh.channel("hung", warm_up=0)
    task = asyncio.create_task(borrow())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert [channel.service for channel in mesh.status().channels] == ["hung"]


async def test_calls_are_balanced_and_the_first_ones_too(mesh):
    async with (
        mesh.serve("s", Greeter("a"), quiet=AT_ONCE),
        mesh.serve("s", Greeter("b"), quiet=AT_ONCE),
        mesh.channel("s", policy="round_robin") as channel,
    ):
        assert sorted([await greet(channel) for _ in range(4)]) == ["a", "a", "b", "b"]
        status = mesh.status()
        assert [endpoint.started for endpoint in status.channels[0].endpoints] == [2, 2]
        assert len(status.servers) == 2
        assert status.registry.connected
        assert len(status.registry.registrations) == 2


@pytest.mark.parametrize("name", ["", "a/b", "a b"])
async def test_a_name_that_cannot_be_is_refused_where_it_is_given(mesh, name):
    with pytest.raises(ConfigError, match="the service"):
        await mesh.channel(name)
    with pytest.raises(ConfigError, match="the service"):
        async with mesh.channel(name):
            pass
    with pytest.raises(ConfigError, match="the service"):
        await mesh.endpoints(name)
    with pytest.raises(ConfigError, match="the service"):
        async with mesh.watch(name):
            pass
    assert mesh.status().channels == ()


async def test_a_policy_that_is_not_known_is_refused(mesh):
    with pytest.raises(ConfigError, match="p2c"):
        await mesh.channel("s", policy="fastest")


async def test_endpoints_are_asked_of_the_registry():
    async with Mesh("memory://asked") as one, Mesh("memory://asked") as two:
        assert len(await one.endpoints("s")) == 0
        async with two.register("s", "127.0.0.1:1", weight=7, zone="z", metadata={"a": "b"}):
            [found] = await one.endpoints("s")
            assert (found.address, found.weight, found.zone) == ("127.0.0.1:1", 7, "z")
            assert found.metadata == {"a": "b"}
        assert len(await one.endpoints("s")) == 0
    async with Mesh("etcd://127.0.0.1:1?timeout=0.1") as down:
        with pytest.raises(RegistryUnavailable, match=r"127\.0\.0\.1:1"):
            await down.endpoints("s")


async def test_namespaces_are_apart():
    async with (
        Mesh("memory://apart", namespace="a") as one,
        Mesh("memory://apart", namespace="b") as two,
        one.register("s", "127.0.0.1:1"),
    ):
        assert len(await one.endpoints("s")) == 1
        assert len(await two.endpoints("s")) == 0


async def test_a_watch_gives_each_change_and_a_slow_reader_the_newest(mesh):
    async with mesh.watch("s") as sets:
        assert len(known := await anext(sets)) == 0
        async with mesh.register("s", "127.0.0.1:1"):
            newer = await anext(sets)
            assert [e.address for e in newer.since(known).added] == ["127.0.0.1:1"]
            async with mesh.register("s", "127.0.0.1:2"):
                async with mesh.register("s", "127.0.0.1:3"):
                    pass
                with anyio.fail_after(5):
                    while len(newest := await anext(sets)) != 2:
                        pass
        with anyio.fail_after(5):
            while len(newest := await anext(sets)):
                pass
        assert newest.revision > newer.revision
    assert mesh.status().registry.watches == {}


async def test_watching_can_be_given_up_at_any_time(mesh):
    before = asyncio.all_tasks()
    for _ in range(2):
        async with mesh.watch("s") as sets:
            async for _ in sets:
                break
    with anyio.move_on_after(0.05):
        async with mesh.watch("s") as sets:
            async for _ in sets:
                pass
    assert mesh.status().registry.watches == {}
    await no_task_is_left(before)


async def test_after_the_mesh_closed_its_channels_refuse(mesh):
    channel = await mesh.channel("s", warm_up=0)
    await mesh.aclose()
    with pytest.raises(grpc.aio.UsageError, match="closed"):
        channel.unary_unary("/s/M")(b"")
    assert issubclass(MeshClosedError, RuntimeError)
