"""Closed load: so many callers, each with one call at a time; variants are compared in one run."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import astuple, dataclass

from benchmarks.figures import percentile
from benchmarks.processes import cpu_of

CONCURRENCY = (1, 16, 64, 256)


@dataclass(frozen=True)
class Variant:
    """One way to make a call.

    Attributes:
        call: makes it.
        pids: processes whose CPU counts as the client's, as that of a proxy.
    """

    call: Callable[[bytes], Awaitable[object]]
    pids: tuple[int, ...] = ()

    def cpu(self) -> float:
        """Seconds of CPU used so far."""
        return time.process_time() + sum(map(cpu_of, self.pids))


@dataclass(frozen=True)
class Slice:
    """A variant under load for a moment, or its ratio to another one."""

    rate: float  # calls/s
    cpu: float  # seconds per call
    p50: float  # seconds
    p99: float

    def __truediv__(self, base: Slice) -> Slice:
        return Slice(*(a / b for a, b in zip(astuple(self), astuple(base), strict=True)))

    def between(self, other: Slice) -> Slice:
        """The mean of both."""
        return Slice(*((a + b) / 2 for a, b in zip(astuple(self), astuple(other), strict=True)))


async def run_slice(variant: Variant, concurrency: int, seconds: float) -> Slice:
    """The load for a moment."""
    latencies: list[float] = []
    end = time.perf_counter() + seconds

    async def caller() -> None:
        began = time.perf_counter()
        while True:  # at least once, however late it is
            await variant.call(b"x")
            now = time.perf_counter()
            latencies.append(now - began)
            if now >= end:
                return
            began = now

    cpu, start = variant.cpu(), time.perf_counter()
    await asyncio.gather(*[caller() for _ in range(concurrency)])
    took, cpu = time.perf_counter() - start, variant.cpu() - cpu
    p50, p99 = (percentile(latencies, share) for share in (0.5, 0.99))
    return Slice(len(latencies) / took, cpu / len(latencies), p50, p99)


@dataclass(frozen=True)
class Comparison:
    """Ratios of variants to a base, and what they are ratios to."""

    ratios: Mapping[str, list[Slice]]
    base: Slice


async def compare(
    variants: Mapping[str, Variant], concurrency: int, *, rounds: int, seconds: float
) -> Comparison:
    """Each slice against the slices of the first variant right before and after it."""
    base = next(iter(variants))
    ratios: dict[str, list[Slice]] = {name: [] for name in variants if name != base}
    for variant in variants.values():  # warm
        await run_slice(variant, concurrency, seconds / 2)
    before = await run_slice(variants[base], concurrency, seconds)
    for _ in range(rounds):
        for name in random.sample(list(ratios), len(ratios)):
            found = await run_slice(variants[name], concurrency, seconds)
            after = await run_slice(variants[base], concurrency, seconds)
            ratios[name].append(found / before.between(after))
            before = after
    return Comparison(ratios, before)
