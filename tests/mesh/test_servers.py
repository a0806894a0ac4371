"""Serving and registering through a mesh."""

import socket

import anyio
import grpc
import pytest

from examples.hello.helloworld_pb2_grpc import add_GreeterServicer_to_server
from meshkit import ConfigError, Mesh, Phase, RegistrationState, RegistryUnavailable
from meshkit._proto.echo_pb2 import EchoReply, EchoRequest
from meshkit._proto.echo_pb2_grpc import EchoServicer, EchoStub
from meshkit.testing.etcd import EtcdProcess, find_etcd, free_ports
from tests.mesh.greeters import AT_ONCE, Greeter, greet

pytestmark = pytest.mark.anyio


class Echo(EchoServicer):
    async def Unary(self, request, context):
        return EchoReply(message=request.message)


@pytest.fixture
async def mesh(request):
    async with Mesh(f"memory://{request.node.name}") as opened:
        yield opened


async def test_one_service(mesh):
    async with mesh.serve(
        "s", Greeter(), weight=7, zone="z", version="1", metadata={"a": "b"}, quiet=AT_ONCE
    ) as server:
        [found] = await mesh.endpoints("s")
        assert (found.weight, found.zone, found.version, found.metadata) == (
            7,
            "z",
            "1",
            {"a": "b"},
        )
        assert found.address == server.address
        async with mesh.channel("s") as channel:
            assert await greet(channel) == "one"
        assert repr(server) in mesh.status().servers
    assert server.phase is Phase.STOPPED
    assert mesh.status().servers == ()
    assert len(await mesh.endpoints("s")) == 0


async def test_several_services_on_one_port(mesh):
    services = {"greeter": Greeter(), "echo": Echo()}
    async with mesh.serve(services, quiet=AT_ONCE) as server:
        addresses = {e.address for name in services for e in await mesh.endpoints(name)}
        assert addresses == {server.address}
        async with mesh.channel("greeter") as greeter, mesh.channel("echo") as echo:
            assert await greet(greeter) == "one"
            assert (await EchoStub(echo).Unary(EchoRequest(message="hi"))).message == "hi"


async def test_two_servicers_of_one_proto_service_on_one_port_are_refused(mesh):
    with pytest.raises(ConfigError, match=r"'b' and 'a' both implement helloworld\.Greeter"):
        async with mesh.serve({"a": Greeter("a"), "b": Greeter("b")}):
            pass
    one = Greeter("one")
    async with mesh.serve({"a": one, "b": one}, quiet=AT_ONCE), mesh.channel("b") as channel:
        assert await greet(channel) == "one"  # one servicer may have two names


@pytest.mark.parametrize(
    ("services", "keywords", "wanted"),
    [
        ({}, {}, "at least one service"),
        ({"s": object()}, {}, "does not implement a generated gRPC service"),
        ({"s": Greeter}, {}, r"Greeter is a class"),
        ({"a/b": Greeter()}, {}, "the service"),
        ({"s": Greeter()}, {"advertise": "0.0.0.0"}, "no address others can dial"),
        ({"s": Greeter()}, {"host": "192.0.2.1"}, "cannot listen on"),
    ],
)
async def test_what_cannot_be_served_is_refused_and_undone(mesh, services, keywords, wanted):
    with pytest.raises(ConfigError, match=wanted):
        async with mesh.serve(services, **keywords):
            pass
    assert mesh.status().servers == ()
    assert mesh.status().registry.registrations == ()
    for name in services.keys() - {"a/b"}:
        assert len(await mesh.endpoints(name)) == 0


async def test_keywords_are_checked_at_once(mesh):
    with pytest.raises(ConfigError, match="port must be"):
        mesh.serve("s", Greeter(), port=70000)
    with pytest.raises(TypeError, match="prot"):
        mesh.serve("s", Greeter(), prot=1)
    with pytest.raises(ConfigError, match="NoneType does not implement"):
        async with mesh.serve("s"):
            pass


async def test_a_port_that_is_taken(mesh):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{port}"):
            async with mesh.serve("s", Greeter(), port=port):
                pass
    async with mesh.serve("s", Greeter(), port=port, quiet=AT_ONCE) as server:  # all was undone
        assert server.port == port


async def test_the_body_of_a_block_may_fail(mesh):
    with pytest.raises(ZeroDivisionError):
        async with mesh.serve("s", Greeter(), quiet=AT_ONCE):
            raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError):
        async with mesh.register("s", "127.0.0.1:1"):
            raise ZeroDivisionError
    assert len(await mesh.endpoints("s")) == 0


async def test_a_server_of_ones_own(mesh):
    server = grpc.aio.server()
    add_GreeterServicer_to_server(Greeter("mine"), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with mesh.channel("s") as channel:
        async with mesh.register("s", f"127.0.0.1:{port}") as registration:
            assert registration.state is RegistrationState.ANNOUNCED
            assert await greet(channel) == "mine"
        assert registration.state is RegistrationState.WITHDRAWN
    await server.stop(None)


async def test_without_the_registry_serving_fails_and_the_port_is_free_again():
    [port] = free_ports(1)
    async with Mesh("etcd://127.0.0.1:1?timeout=0.2", ttl=3) as mesh:
        for opening in (
            mesh.serve("s", Greeter(), port=port, register_timeout=0.3, quiet=AT_ONCE),
            mesh.register("s", "127.0.0.1:7", register_timeout=0.3),
        ):
            with pytest.raises(RegistryUnavailable, match=r"s could not be registered at etcd://"):
                async with opening:
                    pass
        assert mesh.status().registry.registrations == ()
    with socket.create_server(("127.0.0.1", port)):
        pass


@pytest.mark.etcd
async def test_started_before_etcd_it_serves_its_port_and_joins_when_etcd_comes():
    if find_etcd() is None:
        pytest.skip("no etcd here")
    etcd, heard = EtcdProcess(), []
    async with (
        Mesh(etcd.url, ttl=3, hooks=[heard.append]) as mesh,
        mesh.serve("s", Greeter(), require_registration=False, quiet=AT_ONCE) as server,
        mesh.register("t", "127.0.0.1:7", require_registration=False) as registration,
    ):
        async with grpc.aio.insecure_channel(server.address) as channel:
            assert await greet(channel) == "one"
        assert server.registration.state is registration.state is RegistrationState.PENDING
        assert [e.services for e in heard if e.name == "registration.pending"] == [("s",), ("t",)]
        with etcd:
            with anyio.fail_after(10):
                while server.registration.state is not RegistrationState.ANNOUNCED:
                    await anyio.sleep(0.05)
            async with mesh.channel("s") as channel:
                assert await greet(channel) == "one"
            await mesh.aclose()


FAR = "etcd://192.0.2.1:2379"  # nobody's address


@pytest.mark.parametrize(
    ("registry", "address", "wanted"),
    [
        (FAR, "127.0.0.1:1", r"registry is at 192\.0\.2\.1:2379: clients on other machines"),
        (FAR, "localhost:1", "clients on other machines"),
        (FAR, "0.0.0.0:1", "no address others can dial"),
        (FAR, "[::]:1", "no address others can dial"),
        (FAR, "10.0.0.5", r"'10\.0\.0\.5' has no port; write host:port"),
        (FAR, "a b:1", "is not an address"),
        ("memory://m", "127.0.0.1:1", None),
        ("memory://m", "10.0.0.5:1", None),  # said explicitly, so it is meant
        ("memory://m", "", "no port"),
    ],
)
async def test_an_address_that_others_could_not_dial_is_not_registered(registry, address, wanted):
    async with Mesh(registry) as mesh:
        if wanted is None:
            async with mesh.register("s", address):
                assert [e.address for e in await mesh.endpoints("s")] == [address]
            return
        with pytest.raises(ConfigError, match=wanted):
            async with mesh.register("s", address):
                pass


async def test_the_default_registry_is_for_this_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    async with Mesh(environ={}) as mesh:
        for opening in (
            mesh.register("s", "10.0.0.5:1"),
            mesh.serve("s", Greeter(), advertise="10.0.0.5"),
        ):
            with pytest.raises(ConfigError, match="serves this machine only"):
                async with opening:
                    pass
        async with mesh.register("s", "127.0.0.1:1"):
            assert len(await mesh.endpoints("s")) == 1


async def test_a_weight_that_is_none_is_refused(mesh):
    with pytest.raises(ConfigError, match="weight must be 0 or more"):
        async with mesh.register("s", "127.0.0.1:1", weight=-1):
            pass


async def test_the_address_of_the_mesh_is_announced_unless_a_server_has_its_own():
    async with Mesh("memory://advertise", advertise="10.0.0.5") as mesh:
        async with mesh.serve("s", Greeter(), quiet=AT_ONCE) as server:
            assert server.address == f"10.0.0.5:{server.port}"
        async with mesh.serve("s", Greeter(), advertise="10.0.0.6:7", quiet=AT_ONCE) as server:
            assert server.address == "10.0.0.6:7"


async def test_the_zone_of_the_mesh_is_announced_unless_a_server_has_its_own():
    async with Mesh("memory://zones", environ={"MESHKIT_ZONE": "eu-1"}) as mesh:
        own = mesh.serve("s", Greeter(), quiet=AT_ONCE)
        other = mesh.serve("s", Greeter(), zone="eu-2", quiet=AT_ONCE)
        third, fourth = mesh.register("s", "h:1"), mesh.register("s", "h:2", zone="")
        async with own, other, third, fourth:
            zones = [endpoint.zone for endpoint in await mesh.endpoints("s")]
            assert sorted(zones) == ["", "eu-1", "eu-1", "eu-2"]


async def test_how_often_clients_may_ping_a_server_of_ones_own(mesh):
    async with mesh.register("s", "127.0.0.1:1", keepalive=2.5), mesh.register("s", "127.0.0.1:2"):
        found = {e.address: e.keepalive for e in await mesh.endpoints("s")}
        assert found == {"127.0.0.1:1": 2.5, "127.0.0.1:2": 0.0}
    for wrong in (0.5, -1.0, float("nan")):
        with pytest.raises(ConfigError, match="keepalive must be 0, or 1 or more"):
            async with mesh.register("s", "127.0.0.1:1", keepalive=wrong):
                pass
