"""Tails: how long calls take when servers are uneven, by policy.

The load is open: calls are due at random times (Poisson) whatever became of earlier ones, and each
is measured from the time at which it was due. A client that waits for answers would send less to a
slow server and not measure those who would have waited.

The servers wait without burning CPU, so two cores carry all of it. Each policy meets the same
arrivals, one policy after the other in random order, each with new channels; the first seconds of
each are load, but are not measured.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import random
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection

import grpc.aio

from benchmarks.channels import DEFAULT, NATIVE, RAW, opened, policies
from benchmarks.figures import percentile, spread, verdict
from benchmarks.proxy_kinds import ENVOY, proxy
from benchmarks.servers import UNARY, Fleet, fleet

MAIN = (DEFAULT, NATIVE, ENVOY.name)
CALL_TIMEOUT = 30.0  # seconds; longer than the longest queue


@dataclass(frozen=True)
class Target:
    """The default policy's `figure` is at most `limit`, of that of each of `against`."""

    figure: str
    limit: float
    against: tuple[str, ...] = ()


@dataclass(frozen=True)
class Case:
    """Servers and load; the odd ones come first, and their share of the calls is shown."""

    title: str
    servers: tuple[str, ...]
    odd: int
    rate: float  # calls/s of all clients together
    warm: float  # seconds
    target: Target


CASES = {
    "a": Case(
        "ten servers of 1 ms, one of them 50 ms slower, one limited to 4 calls of 5 ms at a time",
        ("51ms", "5ms*4", *["1ms"] * 8),
        odd=2,
        rate=400.0,
        warm=1.0,
        target=Target("p99", 0.15, (NATIVE, ENVOY.name)),
    ),
    "b": Case(
        "ten servers of 1 ms, one of which can serve half its share: one call of 50 ms at a time",
        ("50ms*1", *["1ms"] * 9),
        odd=1,
        rate=400.0,
        warm=1.0,
        target=Target("p99", 0.01, (NATIVE,)),
    ),
    "c": Case(
        "ten equal servers, one call of 20 ms at a time, 60 % load",
        ("20ms*1",) * 10,
        odd=0,
        rate=300.0,
        warm=1.0,
        target=Target("p99", 1.05, (NATIVE,)),
    ),
    "d": Case(
        "ten servers of 1 ms, one of which fails at once",
        ("fail", *["1ms"] * 9),
        odd=1,
        rate=400.0,
        warm=2.0,
        target=Target("odd_share", 0.02),
    ),
}


@dataclass(frozen=True)
class Plan:
    """What one client is to do."""

    channel: str  # a name of `benchmarks.channels.opened`
    addresses: tuple[str, ...]
    seed: str
    rate: float  # calls/s
    warm: float  # seconds
    seconds: float

    def arrivals(self) -> Iterator[float]:
        """When calls are due, in seconds from the start."""
        dice = random.Random(self.seed)
        at = dice.expovariate(self.rate)
        while at < self.warm + self.seconds:
            yield at
            at += dice.expovariate(self.rate)


@dataclass(frozen=True)
class Result:
    """What became of the load of all clients, the first seconds left out."""

    p50: float  # seconds, of the calls that were answered
    p99: float
    p999: float
    failed: float  # of all calls
    odd_share: float  # of the calls that servers had


# -- the clients, each a process


def _client(pipe: Connection) -> None:
    while (plan := pipe.recv()) is not None:
        asyncio.run(_run(plan, pipe))


async def _run(plan: Plan, pipe: Connection) -> None:
    """Answers with the latency of each call, or None for one that failed."""
    found: list[float | None] = []
    async with opened(plan.channel, plan.addresses) as channel:
        call = channel.unary_unary(UNARY)
        pipe.send("ready")
        began = await asyncio.to_thread(pipe.recv)
        async with asyncio.TaskGroup() as calls:
            for at in plan.arrivals():
                if (early := began + at - time.monotonic()) > 0:
                    await asyncio.sleep(early)
                calls.create_task(_measure(call, began + at, found if at >= plan.warm else []))
    pipe.send(found)


async def _measure(
    call: grpc.aio.UnaryUnaryMultiCallable, due: float, found: list[float | None]
) -> None:
    try:
        await call(b"x", timeout=CALL_TIMEOUT)
    except grpc.aio.AioRpcError:
        found.append(None)
    else:
        found.append(time.monotonic() - due)


class Clients:
    """Client processes that do the same at the same time."""

    def __init__(self, pipes: Sequence[Connection]) -> None:
        self._pipes = pipes

    def run(self, plan: Plan, servers: Fleet, odd: int) -> Result:
        """The load of `plan`, shared by all."""
        rate = plan.rate / len(self._pipes)
        for number, pipe in enumerate(self._pipes):
            pipe.send(replace(plan, seed=f"{plan.seed} {number}", rate=rate))
        for pipe in self._pipes:
            pipe.recv()  # it is connected
        began = time.monotonic() + 0.05
        for pipe in self._pipes:
            pipe.send(began)
        time.sleep(max(0.0, began + plan.warm - time.monotonic()))
        before = servers.calls()
        found = [latency for pipe in self._pipes for latency in pipe.recv()]
        had = [after - earlier for after, earlier in zip(servers.calls(), before, strict=True)]
        good = [latency for latency in found if latency is not None]
        return Result(
            *(percentile(good, share) for share in (0.5, 0.99, 0.999)),
            failed=1 - len(good) / len(found),
            odd_share=sum(had[:odd]) / sum(had),
        )


@contextmanager
def _clients(count: int) -> Iterator[Clients]:
    spawn = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        pipes = []
        for _ in range(count):
            ours, theirs = spawn.Pipe()
            stack.enter_context(ours)
            process = spawn.Process(target=_client, args=(theirs,), daemon=True)
            process.start()
            theirs.close()
            stack.callback(process.join)
            stack.callback(process.kill)
            pipes.append(ours)
        yield Clients(pipes)


# -- the figures


def measure_tails(
    cases: Sequence[str],
    names: Sequence[str],
    *,
    clients: Sequence[int],
    rounds: int,
    seconds: float,
) -> None:
    """Print a table for each case and number of clients."""
    for key in cases:
        case = CASES[key]
        for count in clients:
            print(f"\n({key}) {case.title}; {case.rate:.0f} calls/s, {count} client(s)")
            results = _compare(case, names, count, rounds=rounds, seconds=seconds)
            _print(results)
            _judge(case.target, results)


def _compare(
    case: Case, names: Sequence[str], clients: int, *, rounds: int, seconds: float
) -> dict[str, list[Result]]:
    with fleet(case.servers) as servers, ExitStack() as stack:
        channels = {name: (name, tuple(servers.addresses)) for name in names}
        if ENVOY.name in channels:
            del channels[ENVOY.name]
            if envoy := stack.enter_context(proxy(ENVOY, servers.ports)):
                channels[ENVOY.name] = (RAW, (envoy.address,))
        running = stack.enter_context(_clients(clients))
        results: dict[str, list[Result]] = {name: [] for name in channels}
        for number in range(rounds):
            for name in random.sample(list(channels), len(channels)):
                seed = f"{case.title} {number}"
                plan = Plan(*channels[name], seed, case.rate, case.warm, seconds)
                results[name].append(running.run(plan, servers, case.odd))
    return results


def _print(results: dict[str, list[Result]]) -> None:
    native = results.get(NATIVE)
    columns = (
        f"{'p50':>6} {'p99':>20} {'p99.9':>7} {'p99 / native':>20} {'odd share':>9} {'failed':>7}"
    )
    print(f"{'ms, medians (spread) of the rounds':36} {columns}")
    for name, found in results.items():
        p50, p999, odd, failed = (
            statistics.median(getattr(result, figure) for result in found)
            for figure in ("p50", "p999", "odd_share", "failed")
        )
        p99 = spread([result.p99 * 1e3 for result in found], "6.1f")
        ratio = spread(_ratios(found, native, "p99"), "6.3f") if native else ""
        print(
            f"{name:36} {p50 * 1e3:6.1f} {p99:>20} {p999 * 1e3:7.1f} {ratio:>20} "
            f"{odd:9.1%} {failed:7.1%}",
            flush=True,
        )


def _ratios(found: Sequence[Result], base: Sequence[Result], figure: str) -> list[float]:
    """Round by round: both met the same arrivals."""
    return [getattr(f, figure) / getattr(b, figure) for f, b in zip(found, base, strict=True)]


def _judge(target: Target, results: dict[str, list[Result]]) -> None:
    if DEFAULT not in results:
        return
    ours = results[DEFAULT]
    if not target.against:
        median = statistics.median(getattr(result, target.figure) for result in ours)
        reached = verdict(median < target.limit)
        print(f"target: {target.figure} < {target.limit:.2f}: {median:.4f}, {reached}")
    for name in target.against:
        if name in results:
            ratio = statistics.median(_ratios(ours, results[name], target.figure))
            reached = verdict(ratio <= target.limit)
            print(
                f"target: {target.figure} <= {target.limit:.2f} of {name}: {ratio:.3f}, {reached}"
            )


def all_names() -> list[str]:
    """The default policy, what it is compared with, and each policy that has a name."""
    return [*MAIN, *policies()]
