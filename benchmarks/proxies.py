"""meshkit beside the proxy models: the same calls, with a raw client behind each proxy.

The client has a core to itself; the proxy shares the others with the servers, as in a sidecar or a
small gateway. What a call costs is the CPU of the client and the proxy together.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack

from benchmarks.channels import DEFAULT, NATIVE, RAW, opened
from benchmarks.figures import spread, verdict
from benchmarks.load import CONCURRENCY, Comparison, Slice, Variant, compare
from benchmarks.processes import on_cores, split_cores
from benchmarks.proxy_kinds import ENVOY, HAPROXY, NGINX, Proxy, proxy
from benchmarks.servers import UNARY, Fleet, fleet

SERVERS = 3
FASTER = {1: 1.30, 16: 1.00, 64: 1.00, 256: 1.00}  # targets: calls/s against the best proxy
CPU = 0.85


def measure_proxies(*, rounds: int, seconds: float) -> None:
    """Print a table for each concurrency."""
    ours, theirs = split_cores()
    with ExitStack() as stack:
        servers = stack.enter_context(fleet(*[["echo"]] * SERVERS, cores=theirs))
        proxies = {
            kind.name: started
            for kind in (HAPROXY, NGINX, ENVOY)
            if (started := stack.enter_context(proxy(kind, servers.ports, cores=theirs)))
        }
        stack.enter_context(on_cores(ours))
        print(
            f"{SERVERS} {servers.kind} servers and the proxy on cores {sorted(theirs)}, "
            f"the client on {sorted(ours)}"
        )
        asyncio.run(_measure(servers, proxies, rounds=rounds, seconds=seconds))


async def _measure(
    servers: Fleet, proxies: Mapping[str, Proxy], *, rounds: int, seconds: float
) -> None:
    async with AsyncExitStack() as stack:

        async def variant(name: str, addresses: Sequence[str], *pids: int) -> Variant:
            channel = await stack.enter_async_context(opened(name, addresses))
            return Variant(channel.unary_unary(UNARY), pids)

        variants = {name: await variant(name, servers.addresses) for name in (DEFAULT, NATIVE)}
        for name, behind in proxies.items():
            variants[name] = await variant(RAW, [behind.address], behind.pid)
        for concurrency in CONCURRENCY:
            found = await compare(variants, concurrency, rounds=rounds, seconds=seconds)
            print(f"\n{concurrency} at a time. Ratios to {DEFAULT!r}: median (quartiles)")
            _print(found)
            _judge({name: found.ratios[name] for name in proxies}, concurrency)


def _print(found: Comparison) -> None:
    print(f"{'':20} {'calls/s':>18} {'p50':>18} {'p99':>18} {'CPU client + proxy':>18}")
    for name, slices in found.ratios.items():
        columns = (spread([getattr(s, k) for s in slices]) for k in ("rate", "p50", "p99", "cpu"))
        print(f"{name:20} {' '.join(f'{column:>18}' for column in columns)}")
    base = found.base
    print(
        f"({DEFAULT}: {base.rate:.0f} calls/s, p50 {base.p50 * 1e3:.2f} ms, "
        f"p99 {base.p99 * 1e3:.2f} ms, {base.cpu * 1e6:.0f} us of CPU each)"
    )


def _judge(proxies: Mapping[str, Sequence[Slice]], concurrency: int) -> None:
    """meshkit against the proxy that is best in each figure."""
    if not proxies:
        return
    rate = 1 / max(statistics.median(s.rate for s in slices) for slices in proxies.values())
    cpu = 1 / min(statistics.median(s.cpu for s in slices) for slices in proxies.values())
    wanted = FASTER[concurrency]
    print(
        f"target, of the best proxy's: calls/s >= {wanted:.2f}: {rate:.2f}, "
        f"{verdict(rate >= wanted)}; CPU <= {CPU:.2f}: {cpu:.2f}, {verdict(cpu <= CPU)}",
        flush=True,
    )
