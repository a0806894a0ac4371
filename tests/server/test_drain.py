import asyncio
import contextlib

import anyio
import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from meshkit.events import ServerDrained, ServerDraining, StreamsCut, TaskCrashed
from meshkit.server import Phase, Quiet
from tests.server.fakes import FakeRegistrar, Journal, a_server, dial
from tests.server.ring import Ring
from tests.server.ring_pb2_grpc import RingStub

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_task_left")]


@contextlib.asynccontextmanager
async def within(seconds, at_least=0.0):
    """The block takes as long as it may."""
    clock = asyncio.get_running_loop().time
    began = clock()
    with anyio.fail_after(seconds):
        yield
    assert clock() - began >= at_least


async def test_the_order_of_leaving():
    """NOT_SERVING, withdraw, serve on, end the watches, stop."""
    journal = Journal()
    seen = []
    withdrawn = anyio.Event()

    async def look():
        health = health_pb2_grpc.HealthStub(channel)
        seen.append((await health.Check(health_pb2.HealthCheckRequest())).status)
        withdrawn.set()

    server = a_server(
        Ring(), journal, FakeRegistrar(journal, on_withdraw=look), quiet=Quiet(at_least=0.3)
    )
    async with server, dial(server) as channel:
        stub = RingStub(channel)
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        await watch.read()

        async def follow_health():
            while (answer := await watch.read()) is not grpc.aio.EOF:
                journal.append(f"health {answer.status}")
            journal.append(f"health ended {await watch.code()}")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(follow_health)
            tasks.start_soon(server.drain)
            await withdrawn.wait()
            assert server.phase is Phase.DRAINING
            assert await stub.One(b"0", timeout=5) == b"0"  # not all have noticed
            journal.append("served")
    assert seen == [health_pb2.HealthCheckResponse.NOT_SERVING]
    # What the client hears of health comes by another way than the rest, sooner or later.
    assert [word for word in journal if word.startswith("health")] == [
        f"health {health_pb2.HealthCheckResponse.NOT_SERVING}",
        "health ended StatusCode.OK",
    ]
    assert [word for word in journal if not word.startswith("health")] == [
        "server.started",
        "register",
        "server.draining",
        "withdraw",
        "served",
        "server.drained",
    ]


async def test_a_call_in_flight_is_answered():
    journal = Journal()
    ring = Ring()
    async with a_server(ring, journal, grace=30.0) as server, dial(server) as channel:
        call = RingStub(channel).One(b"1.0")
        await ring.began.wait()
        await server.drain()
        assert await call == b"1.0"
    assert journal.event(ServerDraining).in_flight == 1
    drained = journal.event(ServerDrained)
    assert drained.cut == 0
    assert 0.8 < drained.duration < 15.0


async def test_a_stream_that_outlives_the_grace_is_cut_and_told():
    journal = Journal()
    ring = Ring()
    async with a_server(ring, journal, grace=0.2) as server, dial(server) as channel:
        stub = RingStub(channel)
        rude, rude2, polite = stub.Fan(b"rude"), stub.Fan(b"rude"), stub.Fan(b"polite")
        for call in (rude, rude2, polite):
            await call.read()
        async with within(20.0, at_least=0.2):
            await server.drain()
        assert await polite.read() == b"last"
        assert await polite.code() is grpc.StatusCode.OK
        for call in (rude, rude2):
            assert await call.code() is grpc.StatusCode.UNAVAILABLE
    assert ring.cleaned == ["fan"] * 3
    assert server.in_flight == 0
    assert journal.event(StreamsCut) == StreamsCut(server.address, 0.2, {"/test.Ring/Fan": 2})
    assert journal.event(ServerDrained).cut == 2


@pytest.mark.parametrize("kind", ["reflection", "health"])
async def test_streams_that_nobody_counts_do_not_take_the_grace(kind):
    from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

    async with a_server(Ring(), grace=30.0, reflection=True) as server, dial(server) as channel:
        if kind == "health":
            call = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        else:
            call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo()
            await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        await call.read()
        async with within(15.0):
            await server.drain()
        call.cancel()


async def test_a_registry_that_hangs_is_not_waited_for():
    journal = Journal()
    registrar = FakeRegistrar(journal, on_withdraw=anyio.sleep_forever)
    async with (
        a_server(Ring(), journal, registrar, leave_timeout=0.2) as server,
        within(15.0, at_least=0.2),
    ):
        await server.drain()
    assert server.phase is Phase.STOPPED


async def test_a_registrar_with_a_bug_does_not_stop_the_drain():
    async def fail():
        raise LookupError("planted")

    journal = Journal()
    async with a_server(Ring(), journal, FakeRegistrar(journal, on_withdraw=fail)) as server:
        await server.drain()
    assert server.phase is Phase.STOPPED
    crash = journal.event(TaskCrashed)
    assert (crash.task, str(crash.error)) == ("withdraw", "planted")


async def test_callers_share_one_drain():
    journal = Journal()
    async with a_server(Ring(), journal) as server:
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(server.drain)
        await server.drain()
        assert server.phase is Phase.STOPPED
    assert journal.count("withdraw") == 1
    assert journal.count("server.drained") == 1


@pytest.mark.parametrize("cancel", ["scope", "task"])
async def test_a_drain_survives_its_caller(cancel):
    ring = Ring()
    async with a_server(ring) as server, dial(server) as channel:
        call = RingStub(channel).One(b"0.5")
        await ring.began.wait()
        if cancel == "scope":
            with anyio.move_on_after(0.05):
                await server.drain()
        else:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(server.drain(), 0.05)
        assert server.phase is Phase.DRAINING
        await server.wait_for_termination()
        assert await call == b"0.5"


async def test_a_cancelled_block_drains_nevertheless():
    ring = Ring()
    async with anyio.create_task_group() as tasks:
        server = a_server(ring)

        async def serve():
            async with server:
                started.set()
                await server.serve_forever()

        started = anyio.Event()
        tasks.start_soon(serve)
        await started.wait()
        async with dial(server) as channel:
            with anyio.CancelScope(shield=True):
                call = RingStub(channel).One(b"0.3")
                await ring.began.wait()
                tasks.cancel_scope.cancel()
                assert await call == b"0.3"
                await server.wait_for_termination()


async def test_cancelled_once_more_while_it_drains_the_block_stops_at_once():
    journal = Journal()
    ring = Ring()
    started = anyio.Event()
    server = a_server(ring, journal, grace=20.0)

    async def serve():
        async with server:
            started.set()
            await server.serve_forever()

    task = asyncio.create_task(serve())
    await started.wait()
    async with dial(server) as channel:
        call = RingStub(channel).One(b"30")
        await ring.began.wait()
        task.cancel()
        await server._leave.wait()
        task.cancel()
        async with within(10.0):
            with pytest.raises(asyncio.CancelledError):
                await task
        assert server.phase is Phase.STOPPED
        assert await call.code() is grpc.StatusCode.UNAVAILABLE
    assert journal.event(StreamsCut).grace == 0.0


async def test_stop_leaves_the_registry_and_cuts_at_once():
    journal = Journal()
    ring = Ring()
    server = a_server(ring, journal, quiet=Quiet(at_least=15.0, at_most=15.0), grace=20.0)
    async with server, dial(server) as channel:
        call = RingStub(channel).One(b"30")
        await ring.began.wait()
        async with within(10.0):
            await server.stop()
        assert await call.code() is grpc.StatusCode.UNAVAILABLE
    assert journal[-4:] == ["server.draining", "withdraw", "server.streams_cut", "server.drained"]


@pytest.mark.parametrize("stage", ["withdraw", "quiet", "grace"])
async def test_stop_cuts_a_drain_short_wherever_it_waits(stage):
    journal = Journal()
    ring = Ring()
    registrar = FakeRegistrar(journal)
    if stage == "withdraw":
        registrar.on_withdraw = anyio.sleep_forever
    quiet = (
        Quiet(at_least=20.0, at_most=20.0) if stage == "quiet" else Quiet(at_least=0.0, window=0.0)
    )
    server = a_server(ring, journal, registrar, leave_timeout=20.0, quiet=quiet, grace=20.0)
    async with server, dial(server) as channel:
        call = RingStub(channel).One(b"30")
        await ring.began.wait()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.drain)
            await anyio.sleep(0.1)
            assert server.phase is Phase.DRAINING
            async with within(15.0):
                await server.stop()
        assert await call.code() is grpc.StatusCode.UNAVAILABLE


async def test_handlers_that_are_cut_may_clean_up():
    class Careful(Ring):
        async def One(self, request, context):
            self.began.set()
            try:
                await anyio.sleep_forever()
            finally:
                with anyio.CancelScope(shield=True):
                    await asyncio.sleep(0.2)
                self.cleaned.append("one")

    ring = Careful()
    async with a_server(ring, grace=0.0) as server, dial(server) as channel:
        call = RingStub(channel).One(b"")
        await ring.began.wait()
        await server.drain()
        assert ring.cleaned == ["one"]
        assert await call.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_handler_that_will_not_end_is_left_behind_in_time(caplog):
    let_go = anyio.Event()

    class Stubborn(Ring):
        async def One(self, request, context):
            self.began.set()
            while not let_go.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await let_go.wait()
            return b""

    ring = Stubborn()
    async with a_server(ring, grace=0.0) as server, dial(server) as channel:
        call = RingStub(channel).One(b"")
        await ring.began.wait()
        async with within(15.0):
            await server.drain()
        assert server.phase is Phase.STOPPED
        assert server.in_flight == 1
        let_go.set()
        assert await call.code() is grpc.StatusCode.UNAVAILABLE
        await server._calls.idle()
