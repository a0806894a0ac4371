import logging

import anyio
import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from meshkit.server import draining
from tests.server.fakes import a_server, dial
from tests.server.ring import Ring, ThreadRing
from tests.server.ring_pb2_grpc import RingStub

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_task_left")]


async def until_idle(server):
    with anyio.fail_after(20):
        await server._calls.idle()
    assert server._calls.by_method == {}


@pytest.mark.parametrize("servicer", [Ring, ThreadRing])
async def test_all_four_shapes_work_and_are_counted_to_their_end(servicer):
    async with a_server(servicer()) as server, dial(server) as channel:
        stub = RingStub(channel)
        assert await stub.One(b"0") == b"0"
        assert await stub.Sum(iter([b"a", b"b"])) == b"ab"
        chat = stub.Chat()
        await chat.write(b"x")
        assert await chat.read() == b"x"
        assert server._calls.by_method == {"/test.Ring/Chat": 1}
        await chat.done_writing()
        assert await chat.read() is grpc.aio.EOF
        await until_idle(server)
        fan = stub.Fan(b"polite")
        assert await fan.read() == b"first"
        second = stub.Fan(b"polite")
        assert await second.read() == b"first"
        assert server._calls.by_method == {"/test.Ring/Fan": 2}
        assert server.in_flight == 2
        await server.drain()
        for call in (fan, second):
            assert [await call.read(), await call.read()] == [b"last", grpc.aio.EOF]
            assert await call.code() is grpc.StatusCode.OK
        await until_idle(server)


async def test_however_a_call_ends_it_is_counted_out(caplog):
    caplog.set_level(logging.CRITICAL, "grpc")
    async with a_server(Ring()) as server, dial(server) as channel:
        stub = RingStub(channel)
        with pytest.raises(grpc.aio.AioRpcError, match="planted"):
            await stub.One(b"raise")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.One(b"0.2", timeout=0.05)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        call = stub.Fan(b"")
        await call.read()
        call.cancel()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary("/test.Ring/None")(b"")
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        await until_idle(server)


async def test_an_aborted_call_counts_until_its_handler_has_ended():
    ring = Ring()
    async with a_server(ring) as server, dial(server) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await RingStub(channel).One(b"abort")
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert server.in_flight == 1  # gRPC itself has forgotten it: grpc/grpc#37239
        await server.drain()
        assert ring.cleaned == ["abort"]


async def test_health_checks_are_not_counted():
    async with a_server(Ring()) as server, dial(server) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        await watch.read()
        assert server.in_flight == 0
        watch.cancel()


async def test_handlers_in_threads_learn_of_the_drain():
    ring = ThreadRing()
    async with a_server(ring) as server, dial(server) as channel:
        await RingStub(channel).One(b"before")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.drain)
            await server._leave.wait()
            await RingStub(channel).One(b"during")  # it still serves
    assert ring.seen == [False, True]


async def test_outside_a_call_nothing_ever_drains():
    assert not draining().is_set()
    with anyio.move_on_after(0.01) as scope:
        await draining().wait()
    assert scope.cancelled_caught
