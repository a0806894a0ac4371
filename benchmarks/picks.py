"""What a pick costs, and one change among many endpoints, for each policy that there is.

No network: nodes are loads without a connection, and calls end after a while. All is CPU of this
process, and the quickest of several runs: what others do on the machine can only add to it.

Where nodes differ, policies that look at weights and latencies have more to do: a sixth of these
takes 32 times as long as the quickest, and weights are 50, 100 and 200.
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count

from benchmarks.channels import policies
from benchmarks.figures import verdict
from meshkit.balancer import Balancer, Load, Maglev, Policy, Readiness, RingHash, Sticky
from meshkit.endpoint import Endpoint, EndpointSet

SIZES = (10, 1_000, 10_000)
PENDING = 64  # calls under way
REPEATS = 7
CHANGES = 100
PICK_LIMIT = 3e-6  # seconds, among the most endpoints
CHANGE_LIMIT = 200e-6


class Node(Load):
    """What a subchannel is to a balancer."""

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__()
        self.endpoint = endpoint
        self.took = float(endpoint.metadata["took"])  # seconds of each call


@dataclass(frozen=True)
class Call:
    """What a policy may know of a call."""

    path: str
    metadata: tuple[tuple[str, str], ...]


BY_KEY: dict[str, Policy] = {
    "ring_hash": RingHash(key="session"),
    "ring_hash, bounded load": RingHash(key="session", hash_balance_factor=125),
    "maglev": Maglev(key="session"),
    "maglev, bounded load": Maglev(key="session", hash_balance_factor=125),
    "sticky": Sticky(key="session"),
}

CALLS = [Call("/bench.Echo/Unary", (("session", f"user-{n}"),)) for n in range(5_000)]


class Client:
    """A balancer whose endpoints are all connected."""

    def __init__(self, policy: Policy, size: int, *, uneven: bool = False) -> None:
        self._endpoint = uneven_endpoint if uneven else even_endpoint
        dice = random.Random(1)
        picker = policy.picker(dice, time.monotonic)
        self._numbers = count(1)
        self._nodes: dict[str, Node] = {}
        self._balancer = Balancer(
            "bench", make_node=self._make_node, picker=picker, rng=dice, now=time.monotonic
        )
        self._known = EndpointSet.of("bench", map(self._endpoint, range(size)))
        self._balancer.reconcile(self._known)
        for node in self._nodes.values():
            self._balancer.set_readiness(node, Readiness.READY)

    def _make_node(self, endpoint: Endpoint) -> Node:
        node = self._nodes[endpoint.id] = Node(endpoint)
        return node

    def pick_cost(self) -> float:
        """Seconds: what the same calls cost with the nodes known before is not counted."""
        chosen = _drive(map(self._balancer.pick, CALLS))
        found = []
        for _ in range(REPEATS):
            picked = _cpu(lambda: _drive(map(self._balancer.pick, CALLS)))
            replayed = _cpu(lambda: _drive(iter(chosen)))
            found.append((picked - replayed) / len(CALLS))
        return min(found)

    # Changes of an endpoint; each returns what is measured.

    def reweigh(self, number: int) -> Callable[[], None]:
        """Another weight, a new one each time."""
        self._known = self._with(
            replace(self._endpoint(number), weight=100 + next(self._numbers) % 50)
        )
        return lambda: self._balancer.reconcile(self._known)

    def swap(self, number: int) -> Callable[[], None]:
        """Another address, a new one each time: one leaves, and one comes and is connected."""
        moved = replace(self._endpoint(number), address=f"[::{next(self._numbers)}]:1")
        self._known = self._with(moved)

        def change() -> None:
            self._balancer.reconcile(self._known)
            self._balancer.set_readiness(self._nodes[moved.id], Readiness.READY)

        return change

    def flap(self, number: int) -> Callable[[], None]:
        """A connection is lost and comes back."""
        known = self._nodes[self._endpoint(number).id]

        def change() -> None:
            self._balancer.set_readiness(known, Readiness.FAILING)
            self._balancer.pick(CALLS[0])
            self._balancer.set_readiness(known, Readiness.READY)

        return change

    def _with(self, changed: Endpoint) -> EndpointSet:
        return self._known.with_changes(
            {changed.id: changed}, (), revision=self._known.revision + 1
        )

    def change_cost(self, prepare: Callable[[int], Callable[[], None]]) -> float:
        """Seconds, the next pick included; each run a mean, so that no rare rebuild is hidden."""
        dice, size = random.Random(2), len(self._known)
        found = []
        for _ in range(REPEATS):
            chosen = dice.sample(range(size), min(CHANGES, size))
            total = 0.0
            for number in chosen:
                change = prepare(number)
                total += _cpu(lambda change=change: (change(), self._balancer.pick(CALLS[0])))
            found.append(total / len(chosen))
        return min(found)


def even_endpoint(number: int) -> Endpoint:
    """One like all others."""
    address = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}:50051"
    return Endpoint(
        service="bench", id=f"{number:08x}", address=address, metadata={"took": "0.002"}
    )


def uneven_endpoint(number: int) -> Endpoint:
    """One of several weights and latencies."""
    took = 0.001 * 2 ** (number % 6)
    weight = (50, 100, 200)[number % 3]
    return replace(even_endpoint(number), weight=weight, metadata={"took": str(took)})


def _drive(nodes: Iterator[Node]) -> list[Node]:
    """Calls to these nodes, of which some are always under way."""
    chosen, pending = [], deque[Node]()
    for node in nodes:
        node.start()
        chosen.append(node)
        pending.append(node)
        if len(pending) > PENDING:
            done = pending.popleft()
            done.finish(done.took, time.monotonic())
    for done in pending:
        done.finish(done.took, time.monotonic())
    return chosen


def _cpu(run: Callable[[], object]) -> float:
    began = time.process_time()
    run()
    return time.process_time() - began


def measure_picks() -> None:
    """Print a line for each policy."""
    most = SIZES[-1]
    print(f"\nns per pick among so many endpoints; us for one change among {most:,}, with a pick")
    columns = [*(f"{size:,}" for size in SIZES), "uneven", "weight", "address", "reconnect"]
    print(f"{'':28} {' '.join(f'{column:>10}' for column in columns)}")
    for name, policy in (policies() | BY_KEY).items():
        clients = [Client(policy, size) for size in SIZES]
        largest = Client(policy, most, uneven=True)
        picks = [client.pick_cost() for client in (*clients, largest)]
        changes = [
            largest.change_cost(change) for change in (largest.reweigh, largest.swap, largest.flap)
        ]
        figures = [*(f"{p * 1e9:10.0f}" for p in picks), *(f"{c * 1e6:10.0f}" for c in changes)]
        print(f"{name:28} {' '.join(figures)}")
        quick, small = max(picks[-2:]) <= PICK_LIMIT, max(changes) <= CHANGE_LIMIT
        if not (quick and small):
            print(
                f"{'':28} target: pick <= 3 us {verdict(quick)}; change <= 200 us {verdict(small)}"
            )
