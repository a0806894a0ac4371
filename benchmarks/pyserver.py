"""What goserver/main.go does, for machines without Go; costs several times as much CPU."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from contextlib import nullcontext

import grpc
import grpc.aio


class Port(grpc.GenericRpcHandler):
    """One server; `behaviour` is `echo`, `fail`, `20ms` or `20ms*4`."""

    def __init__(self, behaviour: str) -> None:
        found = re.fullmatch(r"(\d+)ms(?:\*(\d+))?", behaviour)
        if not found and behaviour not in {"echo", "fail"}:
            sys.exit(f"no behaviour {behaviour!r}")
        self._fails = behaviour == "fail"
        self._delay = int(found[1]) / 1000 if found else 0.0
        self._workers = asyncio.Semaphore(int(found[2])) if found and found[2] else nullcontext()
        self._calls = 0

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        match details.method:
            case "/bench.Echo/Count":
                return grpc.unary_unary_rpc_method_handler(self._count)
            case "/grpc.health.v1.Health/Watch":
                return grpc.unary_stream_rpc_method_handler(self._health)
            case "/bench.Echo/Unary":
                return grpc.unary_unary_rpc_method_handler(self._unary)
            case "/bench.Echo/Many":
                return grpc.unary_stream_rpc_method_handler(self._many)
            case "/bench.Echo/Stream":
                return grpc.stream_stream_rpc_method_handler(self._stream)
        return None

    async def _count(self, request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        return str(self._calls).encode()

    async def _health(
        self, request: bytes, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[bytes]:
        yield b"\x08\x01"  # a HealthCheckResponse of status SERVING
        await asyncio.Event().wait()

    async def _unary(self, request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        await self._work(context)
        return request

    async def _many(
        self, request: bytes, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[bytes]:
        await self._work(context)
        for _ in range(100):
            yield request

    async def _stream(
        self, requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[bytes]:
        await self._work(context)
        async for request in requests:
            yield request

    async def _work(self, context: grpc.aio.ServicerContext) -> None:
        self._calls += 1
        if self._fails:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "this server always fails")
        async with self._workers:
            if self._delay:
                await asyncio.sleep(self._delay)


async def main() -> None:
    servers = []
    for behaviour in sys.argv[1:]:
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        server.add_generic_rpc_handlers((Port(behaviour),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        servers.append(server)
        print(port, flush=True)
    await asyncio.gather(*[server.wait_for_termination() for server in servers])


if __name__ == "__main__":
    asyncio.run(main())
