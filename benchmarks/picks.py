"""What a pick costs, and one change among many endpoints, for each policy that there is.

No network: nodes are loads without a connection, and calls end after a while. All is CPU of this
process, so that other programs on the machine do not count.
"""

from __future__ import annotations

import random
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import cycle

from benchmarks.channels import policies
from benchmarks.figures import verdict
from meshkit.balancer import Balancer, Load, Policy, Readiness
from meshkit.endpoint import Endpoint, EndpointSet

SIZES = (10, 1_000, 10_000)
PICKS = 5_000
PENDING = 64  # calls under way
REPEATS = 5
CHANGES = 300
PICK_LIMIT = 3e-6  # seconds, among the most endpoints
CHANGE_LIMIT = 200e-6


class Node(Load):
    """What a subchannel is to a balancer."""

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__()
        self.endpoint = endpoint


@dataclass(frozen=True)
class Call:
    """What a policy may know of a call."""

    path: str
    metadata: tuple[tuple[str, str], ...]


CALLS = [Call("/bench.Echo/Unary", (("session", f"user-{n}"),)) for n in range(1_000)]


class Client:
    """A balancer whose endpoints are all connected."""

    def __init__(self, policy: Policy, size: int) -> None:
        dice = random.Random(1)
        picker = policy.picker(dice, time.monotonic)
        self._balancer = Balancer(
            "bench", make_node=Node, picker=picker, rng=dice, now=time.monotonic
        )
        self._known = EndpointSet.of("bench", map(endpoint, range(size)))
        self._balancer.reconcile(self._known)
        self.connect(self._balancer.nodes)

    def connect(self, nodes: Sequence[Node]) -> None:
        for node in nodes:
            self._balancer.set_readiness(node, Readiness.READY)

    def drive(self, pick: Callable[[Call], Node] | None = None) -> Iterator[Node]:
        """The nodes of a run of calls, of which some are always under way."""
        pick, pending = pick or self._balancer.pick, deque[Node]()
        took = cycle((0.001, 0.004, 0.002, 0.050, 0.003))
        for _, call in zip(range(PICKS), cycle(CALLS), strict=False):
            node = pick(call)
            node.start()
            pending.append(node)
            if len(pending) > PENDING:
                pending.popleft().finish(next(took), time.monotonic())
            yield node
        for node in pending:
            node.finish(next(took), time.monotonic())

    def pick_cost(self) -> float:
        """Seconds: what the same calls cost with the nodes known before is not counted."""
        chosen = list(self.drive())
        found = []
        for _ in range(REPEATS):
            known = iter(chosen)
            picked = _cpu(lambda: deque(self.drive(), 0))
            replayed = _cpu(lambda known=known: deque(self.drive(lambda _: next(known)), 0))
            found.append((picked - replayed) / PICKS)
        return statistics.median(found)

    # Changes of an endpoint; each returns what is measured.

    def reweigh(self, number: int) -> Callable[[], None]:
        """Another weight."""
        self._known = self._with(replace(endpoint(number), weight=77))
        return lambda: self._balancer.reconcile(self._known)

    def swap(self, number: int) -> Callable[[], None]:
        """Another address: one leaves, and one comes and is connected."""
        known = next(n for n in self._balancer.nodes if n.endpoint.id == endpoint(number).id)
        self._known = self._with(replace(known.endpoint, address=f"[::1]:{number + 1}"))

        def change() -> None:
            self._balancer.reconcile(self._known)
            self.connect([self._balancer._nodes[known.endpoint.id]])  # noqa: SLF001

        return change

    def flap(self, number: int) -> Callable[[], None]:
        """A connection is lost and comes back."""
        known = next(n for n in self._balancer.nodes if n.endpoint.id == endpoint(number).id)

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
        """Seconds, the next pick included; the mean, so that no rare rebuild is hidden."""
        dice, total = random.Random(2), 0.0
        size = len(self._known)
        self._balancer.pick(CALLS[0])
        for number in dice.sample(range(size), min(CHANGES, size)):
            change = prepare(number)
            total += _cpu(lambda change=change: (change(), self._balancer.pick(CALLS[0])))
        return total / min(CHANGES, size)


def endpoint(number: int) -> Endpoint:
    """One of some weights."""
    address = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}:50051"
    weight = (50, 100, 200)[number % 3]
    return Endpoint(service="bench", id=f"{number:08x}", address=address, weight=weight)


def _cpu(run: Callable[[], object]) -> float:
    began = time.process_time()
    run()
    return time.process_time() - began


def measure_picks() -> None:
    """Print a line for each policy."""
    most = SIZES[-1]
    print(f"\nns per pick among so many endpoints; us for one change among {most:,} and a pick")
    columns = [*(f"{size:,}" for size in SIZES), "weight", "address", "reconnect"]
    print(f"{'':28} {' '.join(f'{column:>10}' for column in columns)}")
    for name, policy in policies().items():
        clients = {size: Client(policy, size) for size in SIZES}
        picks = [client.pick_cost() for client in clients.values()]
        largest = clients[most]
        changes = [
            largest.change_cost(change) for change in (largest.reweigh, largest.swap, largest.flap)
        ]
        figures = [*(f"{p * 1e9:10.0f}" for p in picks), *(f"{c * 1e6:10.0f}" for c in changes)]
        print(f"{name:28} {' '.join(figures)}")
        quick, small = picks[-1] <= PICK_LIMIT, max(changes) <= CHANGE_LIMIT
        if not (quick and small):
            print(
                f"{'':28} target: pick <= 3 us {verdict(quick)}; change <= 200 us {verdict(small)}"
            )
