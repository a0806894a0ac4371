"""`meshkit sidecar` as users start it, with a real Envoy."""

from __future__ import annotations

import signal
import sys

import pytest

from meshkit import Mesh
from meshkit.testing import free_ports
from tests.examples.programs import program
from tests.ingress.proxies import seconds_until
from tests.ingress.test_gateway import client
from tests.mesh.greeters import AT_ONCE, Greeter

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.timeout(120),
    pytest.mark.envoy,
    pytest.mark.usefixtures("envoy_binary"),
]


@pytest.fixture
async def mesh(tmp_path):
    async with Mesh(f"local://{tmp_path}/registry.db") as mesh:
        yield mesh


@pytest.fixture
def sidecar(tmp_path):
    def start(*words):
        flags = ("meshkit", "sidecar", "--concurrency", "1", *words)
        return program(*flags, registry=f"local://{tmp_path}/registry.db")

    return start


async def test_a_port_for_each_service_and_one_for_all(mesh, sidecar):
    hello, other, every = free_ports(3)
    listen = (f"hello_service=127.0.0.1:{hello}", f"other=127.0.0.1:{other}", f"127.0.0.1:{every}")
    async with (
        mesh.serve("hello_service", Greeter("hello"), quiet=AT_ONCE),
        mesh.serve("other", Greeter("other"), quiet=AT_ONCE),
        sidecar(*(word for each in listen for word in ("--listen", each))) as running,
    ):
        assert (await running.until("sidecar")).startswith(f"sidecar on 127.0.0.1:{hello}, ")
        for port, authority, name in (
            (hello, "any", "hello"),
            (other, "any", "other"),
            (every, "hello_service", "hello"),
            (every, "other", "other"),
        ):
            async with client(port, authority) as channel:
                await seconds_until(channel, name)
        assert (await running.ended(signal.SIGTERM))[0] == 0


COMMAND = """
import signal, sys, time
import grpc
from examples.hello.helloworld_pb2 import HelloRequest
from examples.hello.helloworld_pb2_grpc import GreeterStub

def leave(*_):
    print("told to leave", flush=True)
    sys.exit(5)

signal.signal(signal.SIGTERM, leave)
with grpc.insecure_channel(f"127.0.0.1:{sys.argv[1]}") as channel:
    reply = GreeterStub(channel).SayHello(HelloRequest(name="Ada"), timeout=10)
print("answer of", reply.message, flush=True)
for _ in range(600):  # one long sleep may begin just after the signal came, and not be ended by it
    time.sleep(0.1)
"""


async def test_a_command_beside_it_is_started_told_and_gives_its_exit_status(mesh, sidecar):
    [port] = free_ports(1)
    listen = ("--listen", f"hello_service=127.0.0.1:{port}")
    async with (
        mesh.serve("hello_service", Greeter("one"), quiet=AT_ONCE),
        sidecar(*listen, "--", sys.executable, "-c", COMMAND, str(port)) as running,
    ):
        assert await running.until("answer") == "answer of one"
        assert (await running.ended(signal.SIGTERM))[0] == 5
        assert running.lines[-1] == "told to leave"


async def test_a_command_that_cannot_be_started_is_told(mesh, sidecar):
    [port] = free_ports(1)
    async with sidecar("--listen", f"127.0.0.1:{port}", "--", "/nowhere/program") as running:
        code, errors = await running.ended()
    assert code == 1
    assert "/nowhere/program: No such file" in errors


async def test_the_command_ends_with_its_envoy(mesh, sidecar):
    [port] = free_ports(1)
    command = (sys.executable, "-c", "import os, signal, time\n" + KILL_ENVOY)
    async with sidecar("--listen", f"127.0.0.1:{port}", "--", *command) as running:
        code, errors = await running.ended()
    assert code == 1
    assert "Envoy ended by itself" in errors


# The program's parent has two children: it, and the Envoy.
KILL_ENVOY = """
parent = os.getppid()
children = open(f"/proc/{parent}/task/{parent}/children").read().split()
[envoy] = [int(pid) for pid in children if int(pid) != os.getpid()]
os.kill(envoy, signal.SIGKILL)
time.sleep(60)
"""
