"""A discrete-event simulation of one client and its servers: no clock, no sockets, seeded."""

import heapq
import itertools
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from meshkit.balancer import Picker, Readiness
from tests.balancer.nodes import CALL, FakeNode, endpoints, new_balancer


@dataclass
class Outcome:
    calls: Counter[str] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    most_pending: int = 0

    def percentile(self, percent: float) -> float:
        return sorted(self.latencies)[int(len(self.latencies) * percent / 100)]


def simulate(
    picker: Picker, servers: Mapping[str, float], *, rate: float, calls: int, seed: int
) -> Outcome:
    """Send `calls` at `rate` per second to `servers`: seconds of work that each needs per call.

    Arrivals are random (Poisson); every server works on one call at a time, first come first
    served.
    """
    balancer = new_balancer(picker)
    balancer.reconcile(endpoints(*servers))
    for node in balancer.nodes:
        balancer.set_readiness(node, Readiness.READY)
    rng = random.Random(f"arrivals {seed}")  # other dice than those of the picker
    outcome, order = Outcome(), itertools.count()
    free_at = dict.fromkeys(servers, 0.0)
    ends: list[tuple[float, int, FakeNode, float]] = []
    now = 0.0
    for _ in range(calls):
        now += rng.expovariate(rate)
        while ends and ends[0][0] <= now:
            end, _, node, began = heapq.heappop(ends)
            node.finish(end - began, end)
        node = balancer.pick(CALL)
        name = node.endpoint.id
        node.start()
        free_at[name] = max(now, free_at[name]) + servers[name]
        heapq.heappush(ends, (free_at[name], next(order), node, now))
        outcome.calls[name] += 1
        outcome.latencies.append(free_at[name] - now)
        outcome.most_pending = max(outcome.most_pending, node.pending)
    return outcome
