"""Runs all Python blocks of the given pages: `python -m tests.docs.run_python README.md ...`.

A block that awaits at its top level, or uses `server`, `channel` or `stub`, runs where `mesh` is
open, `server` serves `hello_service`, and `channel` and `stub` call it. One that waits for SIGTERM
gets it. Whatever fails is told, with the line of the page, and makes the exit status 1.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import io
import logging
import os
import signal
import sys
import threading
import time
import traceback
import types
from collections.abc import Iterator
from typing import Any

import grpc
import structlog

import meshkit
from examples.hello import helloworld_pb2, helloworld_pb2_grpc
from meshkit import Mesh
from tests.docs.markdown import Block, blocks, same_shape

TIMEOUT = 20.0  # seconds for one block
IN_A_MESH = {"channel", "server", "stub"}


class Greeter(helloworld_pb2_grpc.GreeterServicer):
    async def SayHello(self, request, context):
        return helloworld_pb2.HelloReply(message=f"Hello {request.name}")


PREAMBLE = {
    "asyncio": asyncio,
    "grpc": grpc,
    "meshkit": meshkit,
    "Mesh": Mesh,
    "Greeter": Greeter,
    "HelloReply": helloworld_pb2.HelloReply,
    "HelloRequest": helloworld_pb2.HelloRequest,
    "GreeterServicer": helloworld_pb2_grpc.GreeterServicer,
    "GreeterStub": helloworld_pb2_grpc.GreeterStub,
}


async def _in_a_mesh(code: types.CodeType, names: dict[str, Any], out: io.StringIO) -> str:
    """Run a block where there is a mesh; what the block itself printed."""
    at_once = meshkit.Quiet(at_least=0, window=0)
    async with (
        asyncio.timeout(TIMEOUT),
        Mesh() as mesh,
        mesh.serve("hello_service", Greeter(), quiet=at_once) as server,
    ):
        channel = await mesh.channel("hello_service")
        stub = helloworld_pb2_grpc.GreeterStub(channel)
        names.update(mesh=mesh, server=server, channel=channel, stub=stub)
        if (waiting := eval(code, names)) is not None:
            await waiting
        return out.getvalue()


def _get(names: dict[str, Any], path: str, status: int, words: str) -> None:
    """Ask the web app that a block made."""
    if "app" in names:  # FastAPI
        from fastapi.testclient import TestClient

        with TestClient(names["app"]) as client:
            answer = client.get(path)
            got, text = answer.status_code, answer.text
    else:
        got, text = asyncio.run(_get_from_aiohttp(names["make_app"](), path))
    assert got == status, text
    assert words in text, text


async def _get_from_aiohttp(app: Any, path: str) -> tuple[int, str]:
    from aiohttp.test_utils import TestClient, TestServer

    async with TestClient(TestServer(app)) as client, client.get(path) as answer:
        return answer.status, await answer.text()


@contextlib.contextmanager
def _sigterm_when_taken() -> Iterator[None]:
    """Send SIGTERM to ourselves as soon as somebody waits for it."""
    before, done = signal.getsignal(signal.SIGTERM), threading.Event()

    def send() -> None:
        while not done.wait(0.02):
            if signal.getsignal(signal.SIGTERM) is not before:
                time.sleep(0.1)
                os.kill(os.getpid(), signal.SIGTERM)
                return

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def run(block: Block, number: int) -> str:
    """Run a block; what it printed."""
    os.environ["MESHKIT_REGISTRY"] = f"memory://docs-{number}"
    name = f"docs_block_{number}"
    module = sys.modules[name] = types.ModuleType(name)  # FastAPI looks for it
    names = vars(module)
    names.update(PREAMBLE)
    padded = "\n" * block.line + block.text
    code = compile(padded, block.page, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    out = io.StringIO()
    ended = _sigterm_when_taken() if "serve_forever" in block.text else contextlib.nullcontext()
    with contextlib.redirect_stdout(out), ended:
        if code.co_flags & inspect.CO_COROUTINE or IN_A_MESH & set(code.co_names):
            return asyncio.run(_in_a_mesh(code, names, out))
        exec(code, names)
        if block.order.startswith("get "):
            _, path, status, words = block.order.split(maxsplit=3)
            _get(names, path, int(status), words)
    return out.getvalue()


def main(pages: list[str]) -> int:
    failures = ran = 0
    for page in pages:
        printed = ""
        for block in blocks(page):
            try:
                if block.order == "output":
                    assert same_shape(block.text, printed), f"it prints:\n{printed}"
                elif block.language == "python" and block.file is None:
                    ran += 1
                    printed = run(block, ran)
            except BaseException:
                failures += 1
                print(f"{block.where}: this block fails\n{traceback.format_exc()}")
            structlog.reset_defaults()
            logging.getLogger().handlers.clear()
    print(f"{ran} blocks ran, {failures} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
