"""A balancer with nodes and a clock that a test moves by hand."""

import random
from collections import Counter

from meshkit.balancer import (
    Balancer,
    CircuitBreaker,
    Ejected,
    OutlierDetection,
    Policy,
    Readiness,
    Readmitted,
    Resilience,
    RoundRobin,
    SlowStart,
)
from tests.balancer.nodes import CALL, FakeNode, endpoints, new_balancer

AT_ONCE = SlowStart(window=0.0)


class World:
    """All nodes are ready; calls are sent and end when the test says so."""

    def __init__(
        self,
        *names: str,
        detection: OutlierDetection | None = None,
        breaker: CircuitBreaker | None = None,
        slow_start: SlowStart = AT_ONCE,
        policy: Policy | None = None,
        seed: int = 1,
    ) -> None:
        self.now = 1_000.0
        rng = random.Random(seed)
        self.balancer: Balancer[FakeNode] = new_balancer(
            (policy or RoundRobin()).picker(rng, lambda: self.now),
            rng=rng,
            now=lambda: self.now,
            resilience=Resilience(
                outlier_detection=detection or OutlierDetection(),
                circuit_breaker=breaker or CircuitBreaker(),
                slow_start=slow_start,
            ),
        )
        self.events: list[Ejected[FakeNode] | Readmitted[FakeNode]] = []
        self.want(*names)

    def want(self, *names: str) -> None:
        """These are the endpoints, and all connections to them are up."""
        self.balancer.reconcile(endpoints(*names))
        for node in self.balancer.nodes:
            self.balancer.set_readiness(node, Readiness.READY)

    def __getitem__(self, name: str) -> FakeNode:
        return next(node for node in self.balancer.nodes if node.endpoint.id == name)

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def pick(self) -> FakeNode | None:
        return self.balancer.pick(CALL)

    def picks(self, times: int = 300) -> Counter[str]:
        """Who takes so many calls that end at once, and well."""
        picked: Counter[str] = Counter()
        for _ in range(times):
            node = self.pick()
            picked["" if node is None else node.endpoint.id] += 1
        return picked

    def end(self, node: FakeNode, code: str = "OK", *, sent_at: float | None = None) -> None:
        """A call to `node` ends."""
        sent_at = self.now if sent_at is None else sent_at
        node.start()
        node.finish(self.now - sent_at, self.now)
        if code != "OK" or node.suspect:  # as a call does it
            self.events += self.balancer.hear(node, code, sent_at)

    def fail(self, name: str, times: int = 5, code: str = "UNAVAILABLE") -> None:
        for _ in range(times):
            self.end(self[name], code)

    def serve(self, name: str, times: int) -> None:
        for _ in range(times):
            self.end(self[name])

    @property
    def ejected(self) -> list[str]:
        return [node.endpoint.id for node in self.balancer._states.nodes["ejected"]]
