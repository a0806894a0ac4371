"""What it costs a call that its server counts, propagates deadlines, limits and reports."""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack

import grpc
import grpc.aio

from meshkit import AdaptiveLimit, LoadReports, Mesh, Quiet

Call = Callable[..., Awaitable[bytes]]

SERVICE, METHOD = "bench.Guarded", "Unary"
VARIANTS: Mapping[str, dict[str, object]] = {
    "counts calls": {"propagate_deadline": False},
    "+ deadlines (default)": {},
    "+ deadlines, limit": {"limit": AdaptiveLimit()},
    "+ deadlines, load reports": {"load_reports": LoadReports()},
}
CALLS, CONCURRENCY = 256, 8  # of a slice


async def _answer(request: bytes, context: object) -> bytes:
    return request


def _add(server) -> None:
    handlers = {METHOD: grpc.unary_unary_rpc_method_handler(_answer)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    server.add_registered_method_handlers(SERVICE, handlers)


async def _slice(call: Call) -> float:
    """Seconds of processor time per call, of client and server together."""

    async def caller() -> None:
        for _ in range(CALLS // CONCURRENCY):
            await call(b"x", timeout=30.0)

    used = time.process_time()
    await asyncio.gather(*[caller() for _ in range(CONCURRENCY)])
    return (time.process_time() - used) / CALLS


async def _calls(stack: AsyncExitStack) -> dict[str, Call]:
    """A call to each kind of server, each through a bare channel; `bare` is grpc.aio's own."""
    bare = grpc.aio.server()
    _add(bare)
    addresses = {"bare": f"127.0.0.1:{bare.add_insecure_port('127.0.0.1:0')}"}
    await bare.start()
    stack.push_async_callback(bare.stop, None)
    mesh = await stack.enter_async_context(Mesh("memory://guards"))
    at_once = Quiet(at_least=0, window=0)
    for number, (name, options) in enumerate(VARIANTS.items()):
        serving = mesh.serve(f"guarded_{number}", _add, quiet=at_once, **options)
        addresses[name] = (await stack.enter_async_context(serving)).address
    calls = {}
    for name, address in addresses.items():
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(address))
        calls[name] = channel.unary_unary(f"/{SERVICE}/{METHOD}")
    return calls


async def _measure(rounds: int) -> None:
    async with AsyncExitStack() as stack:
        calls = await _calls(stack)
        for call in calls.values():  # warm
            await _slice(call)
        ratios: dict[str, list[float]] = {name: [] for name in VARIANTS}
        before = await _slice(calls["bare"])
        for _ in range(rounds):
            for name in random.sample(list(VARIANTS), len(VARIANTS)):
                found = await _slice(calls[name])
                after = await _slice(calls["bare"])
                ratios[name].append(2 * found / (before + after))
                before = after
        print("CPU of client and server per call against a bare server of grpc.aio (quartiles)")
        for name, found in ratios.items():
            low, middle, high = statistics.quantiles(found, n=4)
            print(f"{name:28} {middle:5.2f} ({low:.2f}-{high:.2f})")


def measure_guards(*, rounds: int) -> None:
    """Print the ratios."""
    asyncio.run(_measure(rounds))
