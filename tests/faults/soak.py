"""Random faults for a long time: python -m tests.faults.soak --seconds 1800 --seed 7.

Half of the time a single etcd behind a proxy suffers, the other half the members of a cluster. A
seed stands for the same faults of the same length in the same order; how far a run comes in its
time depends on the machine.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from tests.faults.cluster_faults import CUT_OFF, OF_CLUSTER, SEVERABLE
from tests.faults.fleet import Fleet, Size
from tests.faults.outages import Fault, undergo
from tests.faults.outcome import Outcome
from tests.faults.program import wait_until
from tests.faults.registry import Setup
from tests.faults.registry_faults import OF_DATA, OF_ETCD, OF_THE_WAY
from tests.faults.vitals import Growth

__all__ = ["CLUSTER", "SINGLE", "SIZE", "Kind", "soak"]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A registry, and all that may happen to it."""

    name: str
    setup: Setup
    faults: Sequence[Fault]


SINGLE: Final = Kind(
    name="soak-single",
    setup=Setup(proxied=True),
    # Garbage has values of 1 MB: what an allocator keeps of them would hide what a leak takes.
    faults=[f for f in (*OF_ETCD, *OF_DATA, *OF_THE_WAY) if f.name != "garbage"],
)
CLUSTER: Final = Kind(name="soak-cluster", setup=SEVERABLE, faults=[*OF_CLUSTER, CUT_OFF])
# A server that gets no CPU for some seconds is no fault of a registry.
SIZE: Final = Size(servers=3, rate=50, streams=1, ttl=3, deadline=15)

_LONGEST: Final = 6.0  # seconds of a fault, twice the TTL
_CALM: Final = 2.0  # at most so many seconds between two faults
_AGREE: Final = 15.0  # seconds, at the end
_REST: Final = 3.0  # seconds, after the last call
_MORE: Final = 3  # tasks and descriptors: a connection may be exchanged just now
_MORE_MEMORY: Final = 1.0  # MB: more or fewer calls under way
# MB per hour, as soon as there is an hour to speak of. grpcio keeps some 1 kB of each request that
# was cancelled (grpc/grpc#43360), and each fault makes some of them.
_SLOPE: Final = 4.0
_LONG: Final = 600.0  # seconds


def soak(kind: Kind, size: Size, *, seconds: float, seed: int) -> Outcome:
    """Random faults under load: no call fails, all agree in the end, and nothing has grown."""
    rng, outcome, count = random.Random(seed), Outcome(f"{kind.name}, seed {seed}"), 0
    with Fleet(size, kind.setup) as fleet:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            count += 1
            fault = rng.choice(kind.faults)
            fleet.size = replace(size, seconds=round(rng.uniform(0.2, _LONGEST), 1))
            _suffer(replace(fault, name=f"{count}-{fault.name}"), fleet)
            fleet.run(rng.uniform(0.0, _CALM))
        wait_until("the clients know what etcd holds", fleet.agrees, _AGREE)
        strangers = len(fleet.registry.names()) - len(fleet.servers)  # each is a task of a client
        outcome.finish(fleet)
        fleet.run(_REST)
        growths = {p.name: Growth.of(p.happenings("vitals")) for p in fleet.programs}
    outcome.require_no_failure()
    outcome.figures["faults"] = f"{count}"
    for name, growth in growths.items():
        outcome.figures[f"{name} grew by"] = (
            f"{growth.tasks:+.0f} tasks, {growth.fds:+.0f} fds, {growth.memory:+.2f} MB in use "
            f"({growth.slope:+.1f} MB/h, resident {growth.rss_slope:+.1f} MB/h)"
        )
        outcome.require(growth.tasks <= _MORE + strangers, f"{name} has {growth.tasks} tasks more")
        outcome.require(growth.fds <= _MORE, f"{name} has {growth.fds} descriptors more")
        memory = growth.slope / _SLOPE if seconds > _LONG else growth.memory / _MORE_MEMORY
        outcome.require(memory <= 1, f"{name} uses {growth.memory:.2f} MB more")
    return outcome


def _suffer(fault: Fault, fleet: Fleet) -> None:
    """Undergo a fault, and tell how fast all was well; `make faults` says how fast it has to be."""
    trial = Outcome(fault.name)
    undergo(fault, fleet, trial)
    figures = "; ".join(trial.figures.values())
    late = " LATE" if trial.problems else ""
    print(f"  {fault.name}, {fleet.size.seconds:.1f} s: {figures}{late}", flush=True)


def main() -> int:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--seconds", type=float, default=1800.0, help="of faults, both kinds")
    flags.add_argument("--seed", type=int, default=None, help="which faults; default: any")
    given = flags.parse_args()
    seed = random.randrange(10**6) if given.seed is None else given.seed
    print(f"seed {seed}", flush=True)
    outcomes = []
    for kind in (SINGLE, CLUSTER):
        outcomes.append(soak(kind, SIZE, seconds=given.seconds / 2, seed=seed))
        print(outcomes[-1].line(), flush=True)
    return min(1, sum(bool(outcome.problems) for outcome in outcomes))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stops what was started, as Ctrl-C
    sys.exit(main())
