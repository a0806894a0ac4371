"""Handlers know how long their callers wait, and calls that they make get no more time."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from meshkit.deadline import no_deadline, time_remaining
from meshkit.events import DeadlineMissing
from tests.server.fakes import Journal, a_server, dial
from tests.server.ring import Ring
from tests.server.ring_pb2_grpc import RingServicer, RingStub

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_task_left")]


class Telling(RingServicer):
    """Answers with what each handler may know of its deadline."""

    def __init__(self):
        self.left = []

    def note(self):
        self.left.append(time_remaining())

    async def One(self, request, context):
        self.note()
        await asyncio.create_task(self.later())
        with no_deadline():
            self.note()
        return request

    async def later(self):
        self.note()

    async def Fan(self, request, context):
        self.note()
        yield request
        self.note()

    async def Sum(self, requests, context):
        async for _ in requests:
            self.note()
        return b""

    async def Chat(self, requests, context):
        self.note()
        async for request in requests:
            await context.write(request)


class ThreadTelling(Telling):
    def One(self, request, context):
        self.note()
        return request

    def Fan(self, request, context):
        self.note()
        yield request
        self.note()

    def Sum(self, requests, context):
        for _ in requests:
            self.note()
        return b""

    def Chat(self, requests, context):
        self.note()
        yield from requests


async def call_all(stub, timeout):
    await stub.One(b"x", timeout=timeout)
    assert [message async for message in stub.Fan(b"x", timeout=timeout)] == [b"x"]
    await stub.Sum(iter([b"x"]), timeout=timeout)
    assert [message async for message in stub.Chat(iter([b"x"]), timeout=timeout)] == [b"x"]


@pytest.mark.parametrize("servicer", [Telling, ThreadTelling])
async def test_handlers_of_all_shapes_know_it(servicer):
    telling = servicer()
    async with a_server(telling) as server, dial(server) as channel:
        await call_all(RingStub(channel), 30)
    known = [left for left in telling.left if left is not None]
    assert len(known) == {Telling: 6, ThreadTelling: 5}[servicer]
    assert telling.left.count(None) == (servicer is Telling)  # in the block without deadline
    assert all(20 < left < 30.5 for left in known)  # it was counted by two wall clocks


async def test_a_call_without_deadline_has_none_and_is_told_of_once_per_method():
    journal, telling = Journal(), Telling()
    async with a_server(telling, journal) as server, dial(server) as channel:
        for _ in range(2):
            await call_all(RingStub(channel), None)
    assert set(telling.left) == {None}
    told = [event for event in journal.events if isinstance(event, DeadlineMissing)]
    assert told == [DeadlineMissing("/test.Ring/One"), DeadlineMissing("/test.Ring/Sum")]


async def test_a_server_may_not_take_part():
    journal, telling = Journal(), Telling()
    async with a_server(telling, journal, propagate_deadline=False) as server, dial(server) as ch:
        await call_all(RingStub(ch), 30)
    assert set(telling.left) == {None}


async def test_interceptors_may_make_a_new_handler_for_each_call():
    class Renew(grpc.aio.ServerInterceptor):
        async def intercept_service(self, continuation, details):
            handler = await continuation(details)
            self.calls = number = getattr(self, "calls", 0) + 1

            async def renewed(request, context):
                return await handler.unary_unary(b"%d" % number, context)

            return grpc.unary_unary_rpc_method_handler(renewed)

    telling = Telling()
    async with a_server(telling, interceptors=[Renew()]) as server, dial(server) as channel:
        answers = [await RingStub(channel).One(b"x", timeout=t) for t in (30, None)]
    assert answers == [b"1", b"2"]
    assert [left is None for left in telling.left] == [False, False, True, True, True, True]


async def test_a_generic_handler_may_answer_to_any_name():
    class AnyName(grpc.GenericRpcHandler):
        def service(self, details):
            return grpc.unary_unary_rpc_method_handler(self.answer)

        async def answer(self, request, context):
            return b"%d" % (time_remaining() > 0)

    def add(server):
        server.add_generic_rpc_handlers((AnyName(),))

    async with a_server({"ring": add}) as server, dial(server) as channel:
        for number in range(300):
            assert await channel.unary_unary(f"/any/{number}")(b"", timeout=30) == b"1"
        assert len(server._calls._surroundings._known) <= 256


async def test_a_past_deadline_is_the_callers_not_ours():
    """What a handler does after its caller has gone is cut by gRPC, as ever."""
    ring = Ring()
    async with a_server(ring) as server, dial(server) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await RingStub(channel).One(b"5", timeout=0.1)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
