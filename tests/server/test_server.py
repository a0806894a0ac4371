import asyncio
import builtins
import socket
import threading
import time

import anyio
import grpc
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from meshkit.errors import ConfigError, MeshClosedError, RegistryAuthError
from meshkit.events import ServerStarted
from meshkit.server import Phase, Server, ServerOptions, Site
from tests.server.bell_pb2_grpc import BellServicer
from tests.server.fakes import FakeRegistrar, Journal, a_server, dial
from tests.server.ring import Ring
from tests.server.ring_pb2_grpc import RingStub

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_task_left")]


class Bell(BellServicer):
    def Strike(self, request, context):
        return request


def is_open(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def test_it_serves_then_registers_and_on_leaving_withdraws_then_stops():
    journal = Journal()
    served = []

    async def already_serving():
        async with grpc.aio.insecure_channel(server.address) as channel:
            served.append(await RingStub(channel).One(b"0", timeout=5))

    registrar = FakeRegistrar(journal, on_register=already_serving)
    server = a_server(Ring(), journal, registrar)
    assert server.phase is Phase.NEW
    async with server:
        assert server.phase is Phase.SERVING
        assert served == [b"0"]
        assert is_open(server.port)
        assert journal.event(ServerStarted) == ServerStarted(server.address, ("ring",))
    assert server.phase is Phase.STOPPED
    assert not is_open(server.port)
    assert journal == [
        "server.started",
        "register",
        "server.draining",
        "withdraw",
        "server.drained",
    ]


async def test_whether_it_has_to_register_and_for_how_long_it_tries_is_passed_on():
    registrar = FakeRegistrar(Journal())
    async with a_server(Ring(), registrar=registrar):
        assert registrar.asked == {"timeout": 5.0, "required": True}
    options = {"register_timeout": 1.5, "require_registration": False}
    async with a_server(Ring(), registrar=registrar, **options):
        assert registrar.asked == {"timeout": 1.5, "required": False}


async def test_its_endpoints_are_those_that_are_announced_now():
    async with a_server(Ring()) as server:
        assert server.registration.endpoints == server.endpoints
        server.registration.endpoints = ()  # as when they are announced under other ids
        assert server.endpoints == ()


async def test_each_service_is_one_endpoint_at_one_address():
    options = {"weight": 7, "zone": "a", "version": "1.2", "metadata": {"k": "v"}}
    async with a_server({"ring": Ring(), "bell": Bell()}, **options) as server:
        ring, bell = server.endpoints
        assert (ring.service, bell.service) == ("ring", "bell")
        assert ring.id == bell.id
        assert ring.address == bell.address == server.address == f"127.0.0.1:{server.port}"
        assert (ring.weight, ring.zone, ring.version, dict(ring.metadata)) == (
            *(7, "a", "1.2"),
            {"k": "v"},
        )
        assert server.registration.endpoints == server.endpoints


async def test_two_servers_have_two_ids():
    async with a_server(Ring()) as one, a_server(Ring()) as other:
        assert one.endpoints[0].id != other.endpoints[0].id


async def test_an_advertised_port_is_kept():
    async with a_server(Ring(), advertise="localhost:443") as server:
        assert server.address == "localhost:443"
        assert server.port != 443


async def test_the_environment_gives_an_address():
    journal = Journal()
    server = Server(
        {"ring": Ring()},
        FakeRegistrar(journal),
        ServerOptions(),
        journal.emit,
        site=Site(address="localhost"),
    )
    async with server:
        assert server.address == f"localhost:{server.port}"
        await server.stop()


async def test_a_port_that_is_taken_is_named():
    async with a_server(Ring()) as first:
        second = a_server(Ring(), port=first.port)
        with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{first.port}"):
            await second.__aenter__()
        assert second.phase is Phase.STOPPED
        async with dial(first) as channel:
            assert await RingStub(channel).One(b"0") == b"0"


async def test_a_registry_that_refuses_undoes_everything():
    async def refuse():
        raise RegistryAuthError("no")

    journal = Journal()
    server = a_server(Ring(), journal, FakeRegistrar(journal, on_register=refuse))
    with pytest.raises(RegistryAuthError):
        await server.__aenter__()
    assert server.phase is Phase.STOPPED
    assert not is_open(server.port)
    assert "withdraw" not in journal


async def test_cancelled_while_it_registers_it_undoes_everything():
    journal = Journal()
    server = a_server(Ring(), journal, FakeRegistrar(journal, on_register=anyio.sleep_forever))
    with anyio.move_on_after(0.05) as scope:
        await server.__aenter__()
    assert scope.cancelled_caught
    assert server.phase is Phase.STOPPED
    assert not is_open(server.port)


async def test_a_start_that_fails_half_way_leaves_no_open_port(monkeypatch):
    start = grpc.aio._server.Server.start

    async def start_and_fail(self):
        await start(self)
        raise OSError("planted")

    monkeypatch.setattr(grpc.aio._server.Server, "start", start_and_fail)
    server = a_server(Ring())
    with pytest.raises(OSError, match="planted"):
        await server.__aenter__()
    assert server.phase is Phase.STOPPED
    assert not is_open(server.port)


async def test_its_threads_end_with_it():
    def ours():
        return [t for t in threading.enumerate() if t.name.startswith("meshkit handler")]

    async with a_server({"bell": Bell()}) as server, dial(server) as channel:
        assert await channel.unary_unary("/test.Bell/Strike")(b"x") == b"x"
        threads = ours()
        assert threads
    for thread in threads:
        await anyio.to_thread.run_sync(thread.join, 2.0)
        assert not thread.is_alive()


async def test_a_servicer_that_cannot_be_served_binds_nothing():
    server = a_server({"ring": object()})
    with pytest.raises(ConfigError, match="does not implement a generated gRPC service"):
        await server.__aenter__()
    assert (server.phase, server.port) == (Phase.STOPPED, 0)


async def test_it_runs_once():
    server = a_server(Ring())
    async with server:
        with pytest.raises(MeshClosedError):
            await server.__aenter__()
    with pytest.raises(MeshClosedError):
        await server.__aenter__()


async def test_before_it_is_entered_there_is_nothing_to_end():
    server = a_server(Ring())
    await server.drain()
    await server.stop()
    assert server.phase is Phase.NEW
    assert repr(server) == "<Server ring at ?: new>"
    with pytest.raises(RuntimeError, match="async with"):
        _ = server.grpc
    async with server:
        assert isinstance(server.grpc, grpc.aio.Server)
        assert repr(server) == f"<Server ring at {server.address}: serving>"


async def test_without_services_it_is_refused():
    with pytest.raises(ConfigError, match="at least one service"):
        a_server({})


@pytest.mark.parametrize("bad", [{"port": -1}, {"port": 65536}, {"weight": -1}, {"grace": -1.0}])
async def test_options_that_cannot_be_are_refused(bad):
    with pytest.raises(ConfigError):
        ServerOptions(**bad)


async def test_more_calls_than_allowed_are_refused():
    ring = Ring()
    async with a_server(ring, max_concurrent_rpcs=1) as server, dial(server) as channel:
        first = RingStub(channel).Fan(b"polite")
        await first.read()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await RingStub(channel).One(b"0")
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        first.cancel()


async def test_calls_that_come_all_at_once_are_all_answered():
    async with a_server(Ring()) as server, dial(server) as channel:
        await channel.channel_ready()
        calls = [RingStub(channel).One(b"0") for _ in range(4000)]
        time.sleep(1)  # they arrive while the event loop of the server is busy
        await asyncio.gather(*calls)


async def test_interceptors_of_the_user_see_the_calls():
    methods = []

    class Seen(grpc.aio.ServerInterceptor):
        async def intercept_service(self, continuation, handler_call_details):
            methods.append(handler_call_details.method)
            return await continuation(handler_call_details)

    async with a_server(Ring(), interceptors=[Seen()]) as server, dial(server) as channel:
        await RingStub(channel).One(b"0")
    assert methods == ["/test.Ring/One"]


async def test_grpc_aio_server_is_found_at_the_time_it_is_called(monkeypatch):
    given = {}
    original = grpc.aio.server

    def patched(**arguments):  # as OpenTelemetry does
        given.update(arguments)
        return original(**arguments)

    monkeypatch.setattr(grpc.aio, "server", patched)
    async with a_server(Ring(), options=[("grpc.max_send_message_length", 5)]):
        pass
    assert ("grpc.so_reuseport", 0) in given["options"]
    assert ("grpc.max_send_message_length", 5) in given["options"]


async def test_options_of_the_user_are_stronger():
    shared = [("grpc.so_reuseport", 1)]
    async with (
        a_server(Ring(), options=shared) as one,
        a_server(Ring(), port=one.port, options=shared) as other,
    ):
        assert one.port == other.port


async def test_reflection_lists_the_services():
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    async with a_server(Ring(), reflection=True) as server, dial(server) as channel:
        call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo()
        await call.write(request)
        names = {service.name for service in (await call.read()).list_services_response.service}
        assert {"test.Ring", "grpc.health.v1.Health"} <= names
        assert server.in_flight == 0
        call.cancel()


async def test_reflection_without_its_package_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name.startswith("grpc_reflection"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"meshkit\[reflection\]"):
        await a_server(Ring(), reflection=True).__aenter__()


async def test_with_credentials_the_port_is_secure():
    import trustme

    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    credentials = grpc.ssl_server_credentials(
        [(certificate.private_key_pem.bytes(), certificate.cert_chain_pems[0].bytes())]
    )
    trusted = grpc.ssl_channel_credentials(authority.cert_pem.bytes())
    async with (
        a_server(Ring(), advertise="localhost", credentials=credentials) as server,
        grpc.aio.secure_channel(server.address, trusted) as channel,
    ):
        assert await RingStub(channel).One(b"0") == b"0"
