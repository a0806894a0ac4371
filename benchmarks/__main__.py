"""make bench: what meshkit costs, as ratios measured in one interleaved run."""

from __future__ import annotations

import argparse
import asyncio
import os
import platform

import grpc

from benchmarks.calls import compare_calls
from benchmarks.propagation import measure_propagation
from benchmarks.scale import measure_scale
from benchmarks.servers import servers


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--servers", type=int, default=3)
    flags.add_argument("--rounds", type=int, default=12, help="slices per variant")
    flags.add_argument("--seconds", type=float, default=0.5, help="length of a slice")
    flags.add_argument(
        "--scale", action="store_true", help="instead: many endpoints, many services (needs etcd)"
    )
    flags.add_argument(
        "--propagation", action="store_true", help="instead: news to 100 clients (needs etcd)"
    )
    given = flags.parse_args()
    if given.scale:
        measure_scale()
        return
    if given.propagation:
        measure_propagation()
        return

    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
    ours, theirs = {cores[0]}, set(cores[1:]) or {cores[0]}
    with servers(given.servers, theirs) as (kind, ports):
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, ours)  # after the servers, or they would inherit it
        print(
            f"Python {platform.python_version()}, grpcio {grpc.__version__}; "
            f"servers: {given.servers} x {kind}; client on core {sorted(ours)}, "
            f"servers on {sorted(theirs)}"
        )
        asyncio.run(compare_calls(ports, rounds=given.rounds, seconds=given.seconds))


if __name__ == "__main__":
    main()
