"""Tails: how long calls take when servers are uneven, by policy.

The load is open: calls are due at random times (Poisson) whatever became of earlier ones, and each
is measured from the time at which it was due. A client that waits for answers would send less to a
slow server and not measure those who would have waited.

The servers wait without burning CPU, so two cores carry all of it. Each policy meets the same
arrivals, one policy after the other in random order, each with new channels; the first seconds of
each are load, but are not measured. On a machine that is busy with other things calls begin late,
and that is in their latencies: the column "late" shows it (p99; 1 ms is the event loop's clock),
and what was disturbed so is measured again, up to three times.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

from benchmarks.channels import DEFAULT, NATIVE, RAW, policies
from benchmarks.clients import Plan, Result, clients
from benchmarks.figures import spread, verdict
from benchmarks.proxy_kinds import ENVOY, proxy
from benchmarks.servers import fleet

QUIET = 0.005  # seconds that calls may be late
TRIES = 3
MAIN = (DEFAULT, NATIVE, ENVOY.name)


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


def measure_tails(
    cases: Sequence[str],
    names: Sequence[str],
    *,
    counts: Sequence[int],
    rounds: int,
    seconds: float,
) -> None:
    """Print a table for each case and number of clients."""
    for key in cases:
        case = CASES[key]
        for count in counts:
            print(f"\n({key}) {case.title}; {case.rate:.0f} calls/s, {count} client(s)")
            results = _compare(case, names, count, rounds=rounds, seconds=seconds)
            _print(results)
            _judge(case.target, results)


def _compare(
    case: Case, names: Sequence[str], count: int, *, rounds: int, seconds: float
) -> dict[str, list[Result]]:
    with fleet(case.servers) as servers, ExitStack() as stack:
        channels = {name: (name, tuple(servers.addresses)) for name in names}
        if ENVOY.name in channels:
            del channels[ENVOY.name]
            if envoy := stack.enter_context(proxy(ENVOY, servers.ports)):
                channels[ENVOY.name] = (RAW, (envoy.address,))
        running = stack.enter_context(clients(count))
        results: dict[str, list[Result]] = {name: [] for name in channels}
        for number in range(rounds):
            for name in random.sample(list(channels), len(channels)):
                seed = f"{case.title} {number}"
                plan = Plan(*channels[name], seed, case.rate, case.warm, seconds)
                results[name].append(_quiet(partial(running.run, plan, servers, case.odd)))
    return results


def _quiet(run: Callable[[], Result]) -> Result:
    """The first that was not disturbed, or the one that was least."""
    found = [run()]
    while found[-1].late > QUIET and len(found) < TRIES:
        found.append(run())
    return min(found, key=lambda result: result.late)


def _print(results: dict[str, list[Result]]) -> None:
    native = results.get(NATIVE)
    columns = (
        f"{'p50':>6} {'p99':>20} {'p99.9':>7} {'p99 / native':>20} {'odd share':>9} {'failed':>7} "
        f"{'late':>6}"
    )
    print(f"{'ms, medians (spread) of the rounds':36} {columns}")
    for name, found in results.items():
        p50, p999, odd, failed, late = (
            statistics.median(getattr(result, figure) for result in found)
            for figure in ("p50", "p999", "odd_share", "failed", "late")
        )
        p99 = spread([result.p99 * 1e3 for result in found], "6.1f")
        ratio = spread(_ratios(found, native, "p99"), "6.3f") if native else ""
        print(
            f"{name:36} {p50 * 1e3:6.1f} {p99:>20} {p999 * 1e3:7.1f} {ratio:>20} "
            f"{odd:9.1%} {failed:7.1%} {late * 1e3:6.1f}",
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
