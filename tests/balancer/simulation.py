"""A discrete-event simulation of clients and servers: no clock, no sockets, seeded.

The load is open: calls come at random times (Poisson) whatever became of earlier ones. Each client
has its own picker and its own loads, and knows nothing of the other clients' calls.
"""

import heapq
import itertools
import math
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from meshkit.balancer import Policy
from tests.balancer.nodes import CALL, FakeNode, endpoint

STALLS = 0.003  # of the calls are late by what happens in the client, 4 ms on average
STALL = 0.004
ERROR = 0.0005  # seconds in which a server that fails has its error ready


@dataclass(frozen=True, kw_only=True)
class Server:
    """How a server serves; seconds.

    Attributes:
        work: of one worker for one call.
        workers: calls that it works on at a time; the others wait, first come first served.
        delay: that its calls take besides.
        jitter: standard deviation of `work`.
        fails: answers at once, and badly.
        weight: in the registry.
    """

    work: float = 0.0002
    workers: int | None = None
    delay: float = 0.0
    jitter: float = 0.0
    fails: bool = False
    weight: int = 100


@dataclass(frozen=True)
class Done:
    """A call: when it came, to whom it went, how long it took, and how it ended."""

    at: float
    server: str
    took: float
    failed: bool


@dataclass
class Outcome:
    """All calls, in order of time."""

    done: list[Done] = field(default_factory=list)
    most_pending: int = 0

    def since(self, at: float, until: float = math.inf) -> "Outcome":
        """The calls that came from `at` on."""
        return Outcome([done for done in self.done if at <= done.at < until], self.most_pending)

    @property
    def calls(self) -> Counter[str]:
        return Counter(done.server for done in self.done)

    def share(self, *servers: str) -> float:
        """Of all calls, those that went to `servers`."""
        return sum(self.calls[name] for name in servers) / len(self.done)

    def percentile(self, percent: float) -> float:
        """Seconds within which so many of the calls have ended."""
        took = sorted(done.took for done in self.done)
        return took[int(len(took) * percent / 100)]


class _Serving:
    """A server at work."""

    def __init__(self, kind: Server, rng: random.Random) -> None:
        self._kind = kind
        self._rng = rng
        self._free_at = [0.0] * (kind.workers or 0)

    def end_of(self, arrived: float) -> float:
        """When a call that arrives now will have its answer."""
        kind = self._kind
        if kind.fails:
            return arrived + ERROR
        work = kind.work
        if kind.jitter:
            work = max(work / 5, self._rng.gauss(work, kind.jitter))
        began = arrived
        if kind.workers is not None:
            began = max(arrived, self._free_at[0])
            heapq.heapreplace(self._free_at, began + work)
        return began + work + kind.delay


class _Client:
    def __init__(self, policy: Policy, nodes: Sequence[FakeNode], clock, seed: str) -> None:
        self.nodes = tuple(nodes)
        self._picker = policy.picker(random.Random(seed), clock)

    def pick(self) -> FakeNode:
        return self._picker.pick(self.nodes, CALL)


def simulate(
    policy: Policy,
    servers: Mapping[str, Server],
    *,
    rate: float,
    seconds: float,
    seed: int,
    clients: int = 1,
    changes: Iterable[tuple[float, str, Server]] = (),
) -> Outcome:
    """Send `rate` calls a second to `servers`, whose names are in order.

    Args:
        changes: when a server becomes another kind; calls that it has already are not affected.
    """
    rng = random.Random(f"world {seed}")  # other dice than those of the pickers
    now = 0.0
    kinds = dict(servers)
    serving = {name: _Serving(kind, rng) for name, kind in kinds.items()}
    known = [endpoint(name, weight=kind.weight) for name, kind in servers.items()]
    all_clients = [
        _Client(policy, map(FakeNode, known), lambda: now, f"client {seed} {number}")
        for number in range(clients)
    ]
    changes = sorted(changes, key=lambda change: change[0], reverse=True)
    outcome, order = Outcome(), itertools.count()
    ends: list[tuple[float, int, FakeNode, float, bool]] = []
    while (coming := now + rng.expovariate(rate)) < seconds:
        while ends and ends[0][0] <= coming:
            now, _, node, began, failed = heapq.heappop(ends)
            node.finish(now - began, now)
            if failed:
                node.fail()
        now = coming
        while changes and changes[-1][0] <= now:
            _, name, kinds[name] = changes.pop()
            serving[name] = _Serving(kinds[name], rng)
        node = rng.choice(all_clients).pick()
        name = node.endpoint.id
        node.start()
        end = serving[name].end_of(now + 0.001) + 0.001 + abs(rng.gauss(0.0, 0.0005))
        if rng.random() < STALLS:
            end += rng.expovariate(1 / STALL)
        failed = kinds[name].fails
        heapq.heappush(ends, (end, next(order), node, now, failed))
        outcome.done.append(Done(now, name, end - now, failed))
        outcome.most_pending = max(outcome.most_pending, node.pending)
    return outcome
