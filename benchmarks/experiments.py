"""What is asked of the simulated fleet: 1,000 clients and 1,000 servers, unless said otherwise."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass

from benchmarks.simulation import BIN, WORK, Client, Ledger, Server, World
from meshkit.balancer import Policy
from meshkit.balancer.subset import Subset
from meshkit.client.budget import Budget, RetryLimits
from meshkit.client.course import Course
from meshkit.endpoint import Endpoint, EndpointSet
from meshkit.service_config import RetryPolicy

SIZE = 1_000
LOAD = 0.6  # of what all servers can do
SUBSET = 20
RETRY = RetryPolicy(
    max_attempts=4,
    initial_backoff=0.1,
    max_backoff=1.0,
    backoff_multiplier=2.0,
    retryable_status_codes=frozenset({"UNAVAILABLE"}),
)
STORM = (5.0, 15.0)  # seconds between which every attempt fails


def _endpoints(size: int) -> list[Endpoint]:
    return [
        Endpoint(service="bench", id=f"{n:04}", address=f"10.0.{n // 256}.{n % 256}:50051")
        for n in range(size)
    ]


def _subset(endpoints: EndpointSet, size: int, client: int) -> EndpointSet:
    return Subset(size, "", random.Random(f"subset {client}")).of(endpoints)


class Fleet:
    """Clients that call servers, from second 0 on.

    Args:
        policy: of all clients.
        size: how many clients there are, and how many servers.
        subset: how many servers each client knows; None: all.
    """

    def __init__(self, policy: Policy, *, size: int = SIZE, subset: int | None = None) -> None:
        self.world, self.ledger = World(), Ledger()
        self.servers = {endpoint.id: Server() for endpoint in _endpoints(size)}
        known = EndpointSet.of("bench", _endpoints(size))
        self.clients = []
        for number in range(size):
            client = Client(self.world, policy, self.servers, self.ledger, seed=str(number))
            client.connect(known if subset is None else _subset(known, subset, number))
            client.load(LOAD / WORK)
            self.clients.append(client)

    def freeze(self, share: float, noticed: tuple[float, float]) -> None:
        """Some servers answer no more; each client notices each after a time in this range."""
        dice = random.Random("deaths")
        for endpoint_id in dice.sample(list(self.servers), int(share * len(self.servers))):
            self.servers[endpoint_id].frozen = True
            for client in self.clients:
                self.world.after(dice.uniform(*noticed), lambda c=client, e=endpoint_id: c.lose(e))


def subset_spread(subset: int, *, size: int = SIZE) -> list[float]:
    """How many clients have each server in their subset, as parts of the mean, most first."""
    endpoints = EndpointSet.of("bench", _endpoints(size))
    clients = Counter(dict.fromkeys(endpoints.by_id, 0))
    for number in range(size):
        clients.update(_subset(endpoints, subset, number).by_id.keys())
    return sorted((count / subset for count in clients.values()), reverse=True)


@dataclass(frozen=True)
class Spread:
    """Who got how much.

    Attributes:
        shares: calls of each server, as parts of the mean, the busiest first.
        p99: seconds.
    """

    shares: list[float]
    p99: float


def spread(policy: Policy, *, size: int = SIZE, subset: int | None = None) -> Spread:
    """Five seconds; the first is left out."""
    fleet = Fleet(policy, size=size, subset=subset)
    fleet.world.run(1.0)
    fleet.ledger.latencies.clear()
    fleet.world.run(5.0)
    calls = Counter(dict.fromkeys(fleet.servers, 0))
    for (at, endpoint_id), number in fleet.ledger.by_server.items():
        if at * BIN >= 1.0:
            calls[endpoint_id] += number
    mean = calls.total() / size
    latencies = sorted(fleet.ledger.latencies)
    shares = sorted((number / mean for number in calls.values()), reverse=True)
    return Spread(shares, latencies[int(0.99 * len(latencies))])


def deaths(policy: Policy, *, size: int = SIZE, subset: int = SUBSET) -> list[tuple[float, float]]:
    """A tenth of the servers freeze after two seconds: when, and which share of the calls fails."""
    fleet = Fleet(policy, size=size, subset=subset)
    fleet.world.run(2.0)
    fleet.freeze(0.1, noticed=(5.0, 8.0))
    fleet.world.run(12.0)
    calls, failed = fleet.ledger.calls, fleet.ledger.failed
    return [(at * BIN, failed[at] / calls[at]) for at in sorted(calls) if at * BIN < 11.0]


class _Stormy:
    """A client of the storm: its calls, their attempts, and what pays for those."""

    def __init__(
        self, world: World, limits: RetryLimits, attempts: Counter[int], *, seed: str
    ) -> None:
        self._world = world
        self._attempts = attempts
        self._dice = random.Random(seed)
        self._budget = Budget(limits, world.now)

    def load(self, rate: float) -> None:
        """Call at random times."""
        self._world.after(self._dice.expovariate(rate), lambda: self._call(rate))

    def _call(self, rate: float) -> None:
        self.load(rate)
        self._budget.earn(self._world.now)
        self._attempt(Course(RETRY))

    def _attempt(self, course: Course) -> None:
        self._attempts[int(self._world.now / BIN)] += 1
        self._budget.ended()
        if STORM[0] <= self._world.now < STORM[1]:
            self._budget.failed()
            wait = course.next_wait("UNAVAILABLE", None, self._dice.random())
            if wait is not None and self._budget.spend(self._world.now):
                course.attempts += 1
                self._world.after(wait, lambda: self._attempt(course))


def storm(limits: RetryLimits, *, clients: int, rate: float) -> list[tuple[float, float]]:
    """Every attempt fails for ten seconds: when, and how many attempts there are for each call."""
    world, attempts = World(), Counter[int]()
    for number in range(clients):
        _Stormy(world, limits, attempts, seed=str(number)).load(rate)
    world.run(STORM[1] + 2.0)
    due = clients * rate * BIN
    return [(at * BIN, count / due) for at, count in sorted(attempts.items())]
