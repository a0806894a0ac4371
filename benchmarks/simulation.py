"""A simulated fleet: many clients, many servers, no network, no clock; the same for the same seed.

The balancers, policies and loads are those of the SDK. What is simulated are servers, which work on
one call at a time, the time that passes, and the moments at which clients learn of a death.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import count

from meshkit.balancer import Balancer, Load, Policy, Readiness
from meshkit.endpoint import Endpoint, EndpointSet

WORK = 0.010  # seconds of a server for each call
CALL_TIMEOUT = 1.0  # seconds; what a call to a frozen server takes
BIN = 0.1  # seconds


class World:
    """What is due, and when."""

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()

    def after(self, delay: float, do: Callable[[], None]) -> None:
        """Do something `delay` seconds from now."""
        heapq.heappush(self._due, (self.now + delay, next(self._order), do))

    def run(self, until: float) -> None:
        """Let time pass."""
        while self._due[0][0] <= until:
            self.now, _, do = heapq.heappop(self._due)
            do()
        self.now = until


@dataclass(slots=True)
class Server:
    """Works on one call at a time, in order of arrival."""

    free_at: float = 0.0
    frozen: bool = False


class Node(Load):
    """One client's view of one server."""

    __slots__ = ("endpoint", "server")

    def __init__(self, endpoint: Endpoint, server: Server) -> None:
        super().__init__()
        self.endpoint = endpoint
        self.server = server


class Call:
    """What a policy may know of a call."""

    path = "/bench.Echo/Unary"
    metadata: tuple[tuple[str, str], ...] = ()


@dataclass
class Ledger:
    """What became of the calls; the first three count by the bin in which the call began."""

    calls: Counter[int] = field(default_factory=Counter)
    failed: Counter[int] = field(default_factory=Counter)
    by_server: Counter[tuple[int, str]] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)


class Client:
    """Calls at random times (Poisson)."""

    def __init__(
        self, world: World, policy: Policy, servers: Mapping[str, Server], ledger: Ledger, seed: str
    ) -> None:
        self._world = world
        self._ledger = ledger
        self._dice = random.Random(seed)
        picker = policy.picker(random.Random(f"picker {seed}"), lambda: world.now)
        self._nodes: dict[str, Node] = {}
        self._servers = servers
        self._balancer = Balancer(
            "bench",
            make_node=self._make_node,
            picker=picker,
            rng=random.Random(f"balancer {seed}"),
            now=lambda: world.now,
        )

    def _make_node(self, endpoint: Endpoint) -> Node:
        node = self._nodes[endpoint.id] = Node(endpoint, self._servers[endpoint.id])
        return node

    def connect(self, endpoints: EndpointSet) -> None:
        """To all of them, at once."""
        self._balancer.reconcile(endpoints)
        for node in self._nodes.values():
            self._balancer.set_readiness(node, Readiness.READY)

    def load(self, rate: float) -> None:
        """Begin to call, `rate` times a second."""

        def due() -> None:
            self._world.after(self._dice.expovariate(rate), due)
            self._call()

        self._world.after(self._dice.expovariate(rate), due)

    def lose(self, endpoint_id: str) -> None:
        """The connection, if there is one."""
        if (node := self._nodes.get(endpoint_id)) is not None:
            self._balancer.set_readiness(node, Readiness.FAILING)

    def _call(self) -> None:
        began = self._world.now
        self._ledger.calls[int(began / BIN)] += 1
        node = self._balancer.pick(Call)
        node.start()
        self._ledger.by_server[int(began / BIN), node.endpoint.id] += 1
        server = node.server
        if server.frozen:
            self._world.after(CALL_TIMEOUT, lambda: self._end(node, began, ok=False))
            return
        server.free_at = max(began, server.free_at) + WORK
        self._world.after(server.free_at - began, lambda: self._end(node, began, ok=True))

    def _end(self, node: Node, began: float, *, ok: bool) -> None:
        took = self._world.now - began
        node.finish(took, self._world.now)
        self._ledger.latencies.append(took)
        if not ok:
            node.fail()
            self._ledger.failed[int(began / BIN)] += 1
        if node.suspect or not ok:
            self._balancer.hear(node, "OK" if ok else "DEADLINE_EXCEEDED", began)
