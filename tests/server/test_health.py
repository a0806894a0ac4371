import anyio
import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from meshkit.server.health import Health
from tests.server.fakes import a_server, dial
from tests.server.ring import Ring

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_task_left")]

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


def ask(service=""):
    return health_pb2.HealthCheckRequest(service=service)


async def test_the_server_its_proto_services_and_its_mesh_services_are_well():
    async with a_server(Ring()) as server, dial(server) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for service in ("", "test.Ring", "ring"):
            assert (await stub.Check(ask(service))).status == SERVING
        listed = (await stub.List(health_pb2.HealthListRequest())).statuses
        assert {name: answer.status for name, answer in listed.items()} == {
            "": SERVING,
            "test.Ring": SERVING,
            "ring": SERVING,
        }


async def test_an_unknown_service_is_not_found_but_may_be_watched():
    async with a_server(Ring()) as server, dial(server) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Check(ask("other"))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        watch = stub.Watch(ask("other"))
        assert (await watch.read()).status == UNKNOWN
        server.set_serving("other", serving=True)
        assert (await watch.read()).status == SERVING
        watch.cancel()


async def test_a_check_says_which_endpoints_answer():
    services = {"ring": (ring := Ring()), "gong": ring}
    async with a_server(services) as server, dial(server) as channel:
        for service in ("", "ring"):
            call = health_pb2_grpc.HealthStub(channel).Check(ask(service))
            await call
            said = [value for key, value in await call.trailing_metadata()]
            assert said == [f"{e.service}/{e.id}" for e in server.endpoints]


async def test_a_watch_sees_changes_then_the_drain_then_the_end():
    async with a_server(Ring()) as server, dial(server) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(ask("ring"))
        assert (await watch.read()).status == SERVING
        server.set_serving("ring", serving=False)
        assert (await watch.read()).status == NOT_SERVING
        server.set_serving("ring", serving=True)
        assert (await watch.read()).status == SERVING
        await server.drain()
        assert (await watch.read()).status == NOT_SERVING
        assert await watch.read() is grpc.aio.EOF
        assert await watch.code() is grpc.StatusCode.OK


async def test_once_draining_nothing_is_well_again():
    health = Health()
    health.serve(["ring"])
    health.drain()
    health.set("ring", serving=True)
    context = None
    answer = await health.List(health_pb2.HealthListRequest(), context)
    assert {a.status for a in answer.statuses.values()} == {NOT_SERVING}


async def test_a_watcher_that_does_not_read_holds_up_nobody():
    class Stuck:
        """A context whose client has closed its window."""

        def __init__(self):
            self.writing = anyio.Event()

        async def write(self, message):
            self.writing.set()
            await anyio.sleep_forever()

    health = Health()
    stuck = Stuck()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(health.Watch, ask(), stuck)
        await stuck.writing.wait()
        health.set("", serving=True)  # neither waits: there is nothing to await
        health.drain()
        health.close()
        tasks.cancel_scope.cancel()


async def test_before_serving_the_server_is_not_well():
    answers = await Health().List(health_pb2.HealthListRequest(), None)
    assert [answer.status for answer in answers.statuses.values()] == [NOT_SERVING]


async def test_a_change_during_a_write_is_told_after_it():
    class Slow:
        def __init__(self):
            self.told = []
            self.writing = anyio.Event()
            self.go_on = anyio.Event()

        async def write(self, message):
            self.told.append(message.status)
            self.writing.set()
            await self.go_on.wait()

    health = Health()
    health.serve([])
    slow = Slow()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(health.Watch, ask(), slow)
        await slow.writing.wait()
        health.set("", serving=False)
        slow.go_on.set()
        await anyio.wait_all_tasks_blocked()
        assert slow.told == [SERVING, NOT_SERVING]
        health.close()
