"""What a call through the mesh costs: calls/s and client CPU against channels of grpc.aio.

All that meshkit does by default is on. Servers are no bottleneck: the client has a core to itself.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack

import grpc
import grpc.aio

from benchmarks.channels import BARE, BOUNDLESS, DEFAULT, NATIVE, RAW, RETRYING, in_turn, opened
from benchmarks.figures import spread, verdict
from benchmarks.load import CONCURRENCY, Comparison, Variant, compare
from benchmarks.processes import on_cores, split_cores
from benchmarks.servers import MANY, MESSAGES, STREAM, UNARY, fleet

FASTER = {1: 1.00, 16: 1.10, 64: 1.10, 256: 1.10}  # targets: calls/s, by concurrency
CPU = 0.95
STREAMS = 0.98  # of messages/s


class _NoOp(grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(self, continuation, details, request):
        return await continuation(details, request)


def measure_calls(*, rounds: int, seconds: float) -> None:
    """Print a table for one server, its streams, 3 and 10 servers."""
    ours, theirs = split_cores()
    with fleet(*[["echo"]] * 10, cores=theirs) as servers, on_cores(ours):
        print(f"{servers.kind} servers on cores {sorted(theirs)}, the client on {sorted(ours)}")
        asyncio.run(_measure(servers.addresses, rounds=rounds, seconds=seconds))


async def _measure(addresses: Sequence[str], *, rounds: int, seconds: float) -> None:
    async with AsyncExitStack() as stack:

        async def channel(name: str, servers: int) -> grpc.aio.Channel:
            return await stack.enter_async_context(opened(name, addresses[:servers]))

        raw, ours, retrying = [await channel(name, 1) for name in (RAW, DEFAULT, RETRYING)]
        noop = grpc.aio.insecure_channel(addresses[0], interceptors=[_NoOp()])
        await stack.enter_async_context(noop)
        tables = {
            "One server": {
                RAW: _unary(raw),
                "raw, one no-op interceptor": _unary(noop),
                DEFAULT: _unary(ours),
                RETRYING: _unary(retrying),
            },
            f"Unary-stream, {MESSAGES} messages a call": {RAW: _many(raw), DEFAULT: _many(ours)},
            f"Stream-stream, {MESSAGES} messages a call": {RAW: _echo(raw), DEFAULT: _echo(ours)},
        }
        for servers in (3, 10):
            names = (NATIVE, DEFAULT, RETRYING, BOUNDLESS)
            table = {name: _unary(await channel(name, servers)) for name in names}
            bare = await stack.enter_async_context(in_turn(addresses[:servers], UNARY))
            tables[f"{servers} servers"] = table | {BARE: Variant(bare)}
        for title, variants in tables.items():
            streams = "stream" in title
            await _table(title, variants, streams=streams, rounds=rounds, seconds=seconds)


# -- one call of each shape


def _unary(channel: grpc.aio.Channel) -> Variant:
    return Variant(channel.unary_unary(UNARY))


def _many(channel: grpc.aio.Channel) -> Variant:
    start = channel.unary_stream(MANY)

    async def call(request: bytes) -> None:
        async for _ in start(request):
            pass

    return Variant(call)


def _echo(channel: grpc.aio.Channel) -> Variant:
    start = channel.stream_stream(STREAM)

    async def call(request: bytes) -> None:
        async def requests() -> AsyncIterator[bytes]:
            for _ in range(MESSAGES):
                yield request

        async for _ in start(requests()):
            pass

    return Variant(call)


# -- the tables


async def _table(
    title: str, variants: Mapping[str, Variant], *, streams: bool, rounds: int, seconds: float
) -> None:
    base = next(iter(variants))
    print(f"\n{title}. Ratios to {base!r}: median (quartiles) of {rounds} slices")
    print(f"{'':28} {'conc':>4}  {'calls/s':>18}  {'client CPU per call':>19}")
    for concurrency in CONCURRENCY[:2] if streams else CONCURRENCY:
        found = await compare(variants, concurrency, rounds=rounds, seconds=seconds)
        for name, slices in found.ratios.items():
            rate, cpu = spread([s.rate for s in slices]), spread([s.cpu for s in slices])
            print(f"{name:28} {concurrency:4}  {rate:>18}  {cpu:>19}")
        rate, cpu = f"{found.base.rate:.0f} calls/s", f"{found.base.cpu * 1e6:.0f} us of CPU each"
        print(f"{'':33}  ({base}: {rate}, {cpu})")
        _judge(found, STREAMS if streams else FASTER[concurrency], None if streams else CPU)


def _judge(found: Comparison, rate: float, cpu: float | None) -> None:
    """The least of ours has to reach the target."""
    ours = [found.ratios[name] for name in (DEFAULT, RETRYING) if name in found.ratios]
    reached = min(statistics.median(s.rate for s in slices) for slices in ours) >= rate
    said = f"calls/s >= {rate:.2f} {verdict(reached)}"
    if cpu is not None:
        reached = max(statistics.median(s.cpu for s in slices) for slices in ours) <= cpu
        said += f"; CPU <= {cpu:.2f} {verdict(reached)}"
    print(f"{'':33}  target: {said}", flush=True)
