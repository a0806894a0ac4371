"""What meshkit costs and what it is worth, measured here; see docs/explanation/benchmarks.md.

`python -m benchmarks tails --case c --policy p2c` measures one thing; without a subject calls,
proxies, picks and the main lines of tails are measured, in about ten minutes.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import sys
from collections.abc import Sequence

import grpc

from benchmarks.calls import measure_calls
from benchmarks.control_plane import measure_xds
from benchmarks.guards import measure_guards
from benchmarks.models import measure_models
from benchmarks.picks import measure_picks
from benchmarks.plots import PLOTS
from benchmarks.propagation import measure_propagation
from benchmarks.proxies import measure_proxies
from benchmarks.scale import measure_scale
from benchmarks.tails import CASES, MAIN, all_names, measure_tails

WHOLE = (
    ["calls", "--rounds", "5"],
    ["proxies", "--rounds", "6"],
    ["picks"],
    ["tails", "--rounds", "2", "--seconds", "3", "--policy", ",".join(MAIN)],
)


def calls(given: argparse.Namespace) -> None:
    """calls/s and client CPU against bare channels of grpc.aio"""
    measure_calls(rounds=given.rounds, seconds=given.seconds)


def proxies(given: argparse.Namespace) -> None:
    """the same calls behind Envoy, HAProxy and nginx"""
    measure_proxies(rounds=given.rounds, seconds=given.seconds)


def models(given: argparse.Namespace) -> None:
    """central proxy, native channel, sidecar and gRPC's own xDS (needs etcd)"""
    measure_models(rounds=given.rounds, seconds=given.seconds)


def tails(given: argparse.Namespace) -> None:
    """latencies under open load when servers are uneven"""
    measure_tails(
        given.case,
        given.policy,
        counts=given.clients,
        rounds=given.rounds,
        seconds=given.seconds,
    )


def picks(given: argparse.Namespace) -> None:
    """what a pick costs, for each policy"""
    measure_picks()


def guards(given: argparse.Namespace) -> None:
    """what counting, deadlines, a limit and load reports cost a server's calls"""
    measure_guards(rounds=given.rounds)


def plots(given: argparse.Namespace) -> None:
    """draw the simulated fleet into docs/images (needs matplotlib)"""
    for name in given.figure:
        PLOTS[name]()


def scale(given: argparse.Namespace) -> None:
    """what many endpoints and many services cost (needs etcd)"""
    measure_scale()


def propagation(given: argparse.Namespace) -> None:
    """how fast news reach 100 clients (needs etcd)"""
    measure_propagation()


def xds(given: argparse.Namespace) -> None:
    """how fast a change reaches calls by xDS, and what 800 clients cost (needs etcd)"""
    measure_xds()


def _words(text: str) -> list[str]:
    return text.split(",")


def _numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    subjects = parser.add_subparsers(title="subjects", required=True)

    def subject(run, rounds: int | None = None, seconds: float | None = None):
        flags = subjects.add_parser(run.__name__, help=run.__doc__)
        flags.set_defaults(run=run)
        if rounds is not None:
            flags.add_argument("--rounds", type=int, default=rounds, help="slices of each variant")
            flags.add_argument("--seconds", type=float, default=seconds, help="length of a slice")
        return flags

    subject(calls, 8, 0.5)
    subject(proxies, 8, 0.5)
    subject(models, 12, 0.5)
    flags = subject(tails, 3, 4.0)
    flags.add_argument("--case", type=_words, default=list(CASES), help="a,b,c,d")
    flags.add_argument("--policy", type=_words, default=all_names(), help="names, or module:name")
    flags.add_argument("--clients", type=_numbers, default=[1, 4], help="processes: 1,4")
    subject(picks)
    subject(plots).add_argument("--figure", type=_words, default=list(PLOTS), help=",".join(PLOTS))
    flags = subject(guards)
    flags.add_argument("--rounds", type=int, default=40, help="slices of each variant")
    subject(scale)
    subject(propagation)
    subject(xds)
    return parser


def main(words: Sequence[str]) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that all that was started ends
    parser = _parser()
    chosen = [parser.parse_args(part) for part in ([words] if words else WHOLE)]
    print(
        f"Python {platform.python_version()}, grpcio {grpc.__version__}, {os.cpu_count()} cores",
        flush=True,
    )
    for given in chosen:
        given.run(given)


if __name__ == "__main__":
    main(sys.argv[1:])
