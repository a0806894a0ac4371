"""`mesh.dns`: in a program, as the command has it, and for gRPC's own resolver."""

from __future__ import annotations

import sys

import grpc
import pytest

from examples.hello.helloworld_pb2 import HelloRequest
from examples.hello.helloworld_pb2_grpc import GreeterStub
from meshkit import Mesh
from meshkit.errors import ConfigError
from meshkit.testing import free_ports
from tests.dns.asking import ask, told
from tests.examples.programs import program
from tests.mesh.greeters import AT_ONCE, Greeter

pytestmark = pytest.mark.anyio

SRV = "_hello_service._tcp.mesh.local"


async def test_in_a_program(mesh_url: str):
    async with (
        Mesh(mesh_url) as mesh,
        mesh.dns() as responder,
        mesh.serve("hello_service", Greeter(), quiet=AT_ONCE) as server,
    ):
        host, port = server.address.rsplit(":", 1)
        packed = bytes(map(int, host.split("."))).hex()
        assert told(await ask(responder.port, SRV)) == {
            f"SRV 0 25599 {port} {packed}.addr.mesh.local."
        }


async def test_without_the_extra_it_says_what_to_install(mesh_url: str, monkeypatch):
    monkeypatch.setitem(sys.modules, "meshkit.dns", None)
    async with Mesh(mesh_url) as mesh:
        with pytest.raises(ConfigError, match=r"pip install 'meshkit\[dns\]'"):
            async with mesh.dns():
                pass


async def test_grpcs_own_resolver_finds_the_service(mesh_url: str):
    [port] = free_ports(1)
    async with (
        Mesh(mesh_url) as mesh,
        mesh.dns() as responder,
        mesh.serve("hello_service", Greeter(), quiet=AT_ONCE, host="127.0.0.1", port=port),
    ):
        target = f"dns://127.0.0.1:{responder.port}/hello_service.mesh.local:{port}"
        async with grpc.aio.insecure_channel(target) as channel:
            reply = await GreeterStub(channel).SayHello(HelloRequest(name="Ada"), timeout=10)
    assert reply.message == "one"
    assert responder.counts.queries > 0


async def test_the_command_answers_until_it_is_stopped(tmp_path):
    [port] = free_ports(1)
    registry = "static:hello_service=10.0.0.5:50051"
    words = ("meshkit", "dns", "serve", "--listen", f"127.0.0.1:{port}", "--zone", "here.test")
    async with program(*words, "--registry", registry) as serving:
        assert await serving.until("answering") == (
            f"answering for here.test on 127.0.0.1:{port}, UDP and TCP"
        )
        reply = await ask(port, "_hello_service._tcp.here.test")
        assert told(reply) == {"SRV 0 25599 50051 0a000005.addr.here.test."}
        assert (await serving.ended(15))[0] == 0
    assert serving.lines[-1] == "1 queries, 0 malformed packets"


async def test_the_command_says_what_it_cannot_listen_on():
    words = ("meshkit", "dns", "serve", "--registry", "static:a=10.0.0.5:1", "--listen")
    for listen in ("10.0.0.5", "192.0.2.1:15353"):
        async with program(*words, listen) as serving:
            code, errors = await serving.ended()
        assert code == 2
        assert "listen" in errors
