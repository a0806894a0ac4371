"""What a call through the mesh costs: calls/s and client CPU against raw grpc.aio channels."""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import grpc
import grpc.aio

from meshkit import Mesh

Call = Callable[[bytes], Awaitable[bytes]]

PATH = "/bench.Echo/Unary"
ROUND_ROBIN = '{"loadBalancingConfig":[{"round_robin":{}}]}'


class _NoOp(grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(self, continuation, details, request):
        return await continuation(details, request)


@dataclass(frozen=True)
class Slice:
    """A variant under load for a moment."""

    rate: float  # calls/s
    cpu: float  # seconds of this process per call


async def _slice(call: Call, concurrency: int, seconds: float) -> Slice:
    calls, end = 0, time.perf_counter() + seconds

    async def caller() -> None:
        nonlocal calls
        while time.perf_counter() < end:
            await call(b"x")
            calls += 1

    cpu, start = time.process_time(), time.perf_counter()
    await asyncio.gather(*[caller() for _ in range(concurrency)])
    return Slice(calls / (time.perf_counter() - start), (time.process_time() - cpu) / calls)


async def _compare(
    variants: dict[str, Call], base: str, concurrency: int, *, rounds: int, seconds: float
) -> dict[str, list[Slice]]:
    """Ratios to `base`: each slice against the base slices right before and after it."""
    ratios: dict[str, list[Slice]] = {name: [] for name in variants if name != base}
    for call in variants.values():  # warm
        await _slice(call, concurrency, seconds / 2)
    before = await _slice(variants[base], concurrency, seconds)
    for _ in range(rounds):
        for name in random.sample(list(ratios), len(ratios)):
            found = await _slice(variants[name], concurrency, seconds)
            after = await _slice(variants[base], concurrency, seconds)
            rate, cpu = (before.rate + after.rate) / 2, (before.cpu + after.cpu) / 2
            ratios[name].append(Slice(found.rate / rate, found.cpu / cpu))
            before = after
    ratios[base] = [before]
    return ratios


def _spread(values: Sequence[float]) -> str:
    middle = statistics.median(values)
    low, _, high = statistics.quantiles(values, n=4)
    return f"{middle:5.2f} ({low:.2f}-{high:.2f})"


def _print(name: str, concurrency: int, slices: Sequence[Slice]) -> None:
    rate, cpu = _spread([s.rate for s in slices]), _spread([s.cpu for s in slices])
    print(f"{name:28} {concurrency:4}  {rate:>18}  {cpu:>19}", flush=True)


async def _table(variants: dict[str, Call], *, rounds: int, seconds: float) -> None:
    """The first of `variants` is what the others are compared with."""
    base = next(iter(variants))
    print(f"\nRatios to {base!r}: median (quartiles) of {rounds} slices")
    print(f"{'':28} {'conc':>4}  {'calls/s':>18}  {'client CPU per call':>19}")
    for concurrency in (1, 16, 64, 256):
        found = await _compare(variants, base, concurrency, rounds=rounds, seconds=seconds)
        [absolute] = found.pop(base)
        for name, slices in found.items():
            _print(name, concurrency, slices)
        rate, cpu = f"{absolute.rate:.0f} calls/s", f"{absolute.cpu * 1e6:.0f} us of CPU each"
        print(f"{'':33}  ({base}: {rate}, {cpu})")


async def compare_calls(ports: Sequence[int], *, rounds: int, seconds: float) -> None:
    """meshkit against a raw channel to one server, and against grpc's own round_robin over all."""
    addresses = [f"127.0.0.1:{port}" for port in ports]
    raw = grpc.aio.insecure_channel(addresses[0])
    intercepted = grpc.aio.insecure_channel(addresses[0], interceptors=[_NoOp()])
    native = grpc.aio.insecure_channel(
        f"ipv4:{','.join(addresses)}", options=[("grpc.service_config", ROUND_ROBIN)]
    )
    registry = f"static:one={addresses[0]};all={','.join(addresses)}"
    async with Mesh(registry) as mesh:
        one_server = {
            "raw channel": raw,
            "raw, one no-op interceptor": intercepted,
            "meshkit p2c": await mesh.channel("one"),
        }
        all_servers = {
            "grpc round_robin": native,
            "meshkit p2c": await mesh.channel("all"),
            "meshkit round_robin": await mesh.channel("all", policy="round_robin"),
        }
        for title, channels in (("One server", one_server), ("All servers", all_servers)):
            print(f"\n{title}.", end="")
            calls = {name: channel.unary_unary(PATH) for name, channel in channels.items()}
            await _table(calls, rounds=rounds, seconds=seconds)
    for channel in (raw, intercepted, native):
        await channel.close()
