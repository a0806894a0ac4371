"""Client processes under open load: calls are due at their times, whatever became of others."""

from __future__ import annotations

import asyncio
import multiprocessing
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection

import grpc.aio

from benchmarks.channels import opened
from benchmarks.figures import percentile
from benchmarks.servers import UNARY, Fleet

CALL_TIMEOUT = 30.0  # seconds; longer than the longest queue


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
    late: float  # seconds, p99: how late calls were begun; a busy machine shows here


def _client(pipe: Connection) -> None:
    while True:
        asyncio.run(_run(pipe.recv(), pipe))


async def _run(plan: Plan, pipe: Connection) -> None:
    """Answers with how late each call was begun, and its latency or None for one that failed."""
    found: list[tuple[float, float | None]] = []
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
    call: grpc.aio.UnaryUnaryMultiCallable, due: float, found: list[tuple[float, float | None]]
) -> None:
    late = time.monotonic() - due
    try:
        await call(b"x", timeout=CALL_TIMEOUT)
    except grpc.aio.AioRpcError:
        found.append((late, None))
    else:
        found.append((late, time.monotonic() - due))


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
        late, found = zip(*(call for pipe in self._pipes for call in pipe.recv()), strict=True)
        had = [after - earlier for after, earlier in zip(servers.calls(), before, strict=True)]
        good = [latency for latency in found if latency is not None]
        return Result(
            *(percentile(good, share) for share in (0.5, 0.99, 0.999)),
            failed=1 - len(good) / len(found),
            odd_share=sum(had[:odd]) / sum(had),
            late=percentile(late, 0.99),
        )


@contextmanager
def clients(count: int) -> Iterator[Clients]:
    """So many, for the length of a block."""
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
