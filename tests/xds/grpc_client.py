"""A client with gRPC's own xDS, in a process of its own: one line in, one line of JSON out.

call 20 x-canary=1    who answered how many of 20 calls, and the errors
wait 5                who answered a call that waits until it can be sent, and after how long
state                 what it made of each resource, by type and name
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import grpc
from grpc_csds import ClientStatusDiscoveryServiceServicer

from examples.hello.helloworld_pb2 import HelloRequest
from examples.hello.helloworld_pb2_grpc import GreeterStub
from meshkit.xds import ControlPlaneAddress, grpc_bootstrap

__all__ = ["GrpcClient", "grpc_client"]


class GrpcClient:
    """The process, from the test's side."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def _ask(self, *words: object) -> Any:
        self._process.stdin.write(" ".join(map(str, words)).encode() + b"\n")
        await self._process.stdin.drain()
        return json.loads(await self._process.stdout.readline())

    async def call(self, count: int = 1, **headers: str) -> dict[str, int]:
        """How many of `count` calls each server answered, or which status they had."""
        pairs = (f"{name.replace('_', '-')}={value}" for name, value in headers.items())
        return await self._ask("call", count, *pairs)

    async def wait(self, timeout: float = 10.0) -> dict[str, Any]:
        """Who answered a call that waits, and after how many seconds."""
        return await self._ask("wait", timeout)

    async def state(self) -> dict[str, str]:
        """`ACKED`, `NACKED`, ... of each resource, named `Listener hello_service`."""
        return await self._ask("state")


@asynccontextmanager
async def grpc_client(
    address: str, *, bootstrap: Mapping[str, Any] | None = None, zone: str = ""
) -> AsyncIterator[GrpcClient]:
    """A client of the control plane at `address`, for the length of a block."""
    document = bootstrap or grpc_bootstrap(
        ControlPlaneAddress(addresses=[address]), node="child", zone=zone
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.xds.grpc_client",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "GRPC_XDS_BOOTSTRAP_CONFIG": json.dumps(document)},
    )
    try:
        yield GrpcClient(process)
    finally:
        process.stdin.close()
        if process.returncode is None:
            process.kill()
        await process.wait()


# ---- the process


async def _call(stub: GreeterStub, count: str, *pairs: str) -> dict[str, int]:
    metadata = [tuple(pair.split("=", 1)) for pair in pairs]
    found: Counter[str] = Counter()
    for _ in range(int(count)):
        try:
            reply = await stub.SayHello(HelloRequest(), timeout=10, metadata=metadata)
            found[reply.message] += 1
        except grpc.aio.AioRpcError as error:
            found[f"{error.code().name}: {error.details()}"] += 1
    return found


async def _wait(stub: GreeterStub, timeout: str) -> dict[str, Any]:
    began = time.perf_counter()
    try:
        reply = await stub.SayHello(HelloRequest(), timeout=float(timeout), wait_for_ready=True)
        who = reply.message
    except grpc.aio.AioRpcError as error:
        who = error.code().name
    return {"who": who, "seconds": time.perf_counter() - began}


async def _state(_stub: GreeterStub) -> dict[str, str]:
    from envoy.admin.v3.config_dump_shared_pb2 import ClientResourceStatus

    answer = ClientStatusDiscoveryServiceServicer.FetchClientStatus(None, None)
    return {
        f"{each.type_url.rpartition('.')[2]} {each.name}": (
            ClientResourceStatus.Name(each.client_status)
        )
        for config in answer.config
        for each in config.generic_xds_configs
    }


async def main() -> None:
    commands = {"call": _call, "wait": _wait, "state": _state}
    loop = asyncio.get_running_loop()
    async with grpc.aio.insecure_channel("xds:///hello_service") as channel:
        stub = GreeterStub(channel)
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            command, *words = line.split()
            print(json.dumps(await commands[command](stub, *words)), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
