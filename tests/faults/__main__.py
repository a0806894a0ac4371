"""Run scenarios at full size, with one line for each run: python -m tests.faults all --runs 5."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Final, TypeAlias

from tests.faults.cluster_faults import CUT_OFF, OF_CLUSTER
from tests.faults.crowd import ailing, crowd
from tests.faults.endings import ALONE, ENDINGS, ending
from tests.faults.fleet import Size
from tests.faults.outages import Fault, outage
from tests.faults.outcome import Outcome
from tests.faults.registry_faults import GUARDED, LATE, OF_DATA, OF_ETCD, OF_THE_WAY
from tests.faults.scenarios import hung, kill, policies, rolling, streams_cut

Scenario: TypeAlias = tuple[Callable[[Size], Outcome], Size]


def _of(fault: Fault, size: Size) -> Scenario:
    return partial(outage, fault.name, [fault]), size


SCENARIOS: Final[Mapping[str, Scenario]] = {
    "rolling": (rolling, Size(seconds=3)),
    "rolling-far": (rolling, Size(seconds=3, distance=0.05)),
    "kill": (kill, Size()),
    "hung": (hung, Size(ttl=15, seconds=12)),
    "policies": (policies, Size(seconds=3)),
    "streams-cut": (streams_cut, Size(servers=3, streams=6, stream_seconds=8, grace=2)),
    **{
        fault.name: _of(fault, Size())
        for fault in (*OF_ETCD, *OF_DATA, *OF_THE_WAY, *OF_CLUSTER, CUT_OFF, GUARDED)
    },
    LATE.name: _of(LATE, Size(deadline=30)),  # calls wait for etcd
    "crowd": (crowd, Size(servers=2, clients=1)),
    "slow": (ailing, Size(servers=4, ails="slow")),
    "fails": (ailing, Size(servers=4, ails="fails")),
    **{name: (partial(ending, name), ALONE) for name in ENDINGS},
}


def main() -> int:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("scenario", choices=[*SCENARIOS, "all"])
    flags.add_argument("--runs", type=int, default=1)
    flags.add_argument("--seconds", type=float, help="how long lasts what is done")
    flags.add_argument("--ttl", type=float, help="of all leases, in seconds")
    given = flags.parse_args()
    changes = {k: v for k in ("seconds", "ttl") if (v := getattr(given, k)) is not None}
    chosen = SCENARIOS if given.scenario == "all" else [given.scenario]
    failed = 0
    for name in chosen:
        scenario, size = SCENARIOS[name]
        for _ in range(given.runs):
            outcome = scenario(replace(size, **changes))
            print(outcome.line(), flush=True)
            failed += bool(outcome.problems)
    return min(failed, 1)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stops what was started, as Ctrl-C
    sys.exit(main())
