"""The generated code loads, talks, and is what the proto files say."""

import asyncio
import pickle
import subprocess
from pathlib import Path

import grpc
import pytest

from examples.hello import helloworld_pb2, helloworld_pb2_grpc
from meshkit import _proto
from tests.protos import stubs

ROOT = Path(__file__).parents[2]

GENERATED = [
    ("helloworld.proto", "examples/hello", ".venv-protos"),
    ("clock.proto", "examples/two_and_one", ".venv-protos"),
    ("meshkit/testing/v1/echo.proto", "meshkit/_proto", ".venv-protos"),
    ("meshkit/testing/v1/echo.proto", "tests/stubs_current", ".venv-protos-current"),
]


def echo_servicer(messages, services):
    class Echo(services.EchoServicer):
        def answer(self, message):
            return messages.EchoReply(message=message, server_id="s1")

        async def Unary(self, request, context):
            await asyncio.sleep(request.delay)
            return self.answer(request.message)

        async def ServerStream(self, request, context):
            for _ in range(request.count):
                yield self.answer(request.message)

        async def ClientStream(self, requests, context):
            return self.answer("".join([request.message async for request in requests]))

        async def Bidi(self, requests, context):
            async for request in requests:
                yield self.answer(request.message)

    return Echo()


@pytest.mark.parametrize("load", [stubs.shipped_stubs, stubs.current_stubs])
def test_all_four_call_shapes(load):
    messages, services = load()
    replies = asyncio.run(ask_everything(messages, services))
    assert [[reply.message for reply in answer] for answer in replies] == [
        ["a"],
        ["b", "b"],
        ["cd"],
        ["e", "f"],
    ]


async def ask_everything(messages, services):
    server = grpc.aio.server()
    services.add_EchoServicer_to_server(echo_servicer(messages, services), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    request = messages.EchoRequest
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        echo = services.EchoStub(channel)
        replies = [
            [await echo.Unary(request(message="a", delay=0.001))],
            [reply async for reply in echo.ServerStream(request(message="b", count=2))],
            [await echo.ClientStream([request(message="c"), request(message="d")])],
            [reply async for reply in echo.Bidi([request(message="e"), request(message="f")])],
        ]
    await server.stop(None)
    return replies


@pytest.mark.parametrize("load", [stubs.shipped_stubs, stubs.current_stubs])
def test_messages_survive_pickling(load):
    """They travel between processes in benchmarks and demos."""
    request = load()[0].EchoRequest(message="a", count=3)
    assert pickle.loads(pickle.dumps(request)) == request


def test_shipped_code_asks_for_no_more_than_we_do():
    """pyproject promises grpcio 1.66.2 and protobuf 5.27.2; newer generated code would refuse."""
    wanted = stubs.demands(Path(_proto.__file__).parent)
    assert wanted == {"grpcio": "1.66.2", "protobuf": "5.27.2"}
    assert helloworld_pb2_grpc.GRPC_GENERATED_VERSION == "1.66.2"
    assert helloworld_pb2.HelloRequest(name="Ada").name == "Ada"


@pytest.mark.parametrize(("proto", "package", "venv"), GENERATED)
def test_generated_code_is_up_to_date(proto, package, venv, tmp_path):
    python = ROOT / venv / "bin" / "python"
    if not python.exists():
        pytest.skip(f"no {venv}: `make protos` makes it")
    subprocess.run([python, ROOT / "protos" / "generate.py", proto, tmp_path], check=True)
    written = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert len(written) == 3
    assert written == {name: (ROOT / package / name).read_text() for name in written}
