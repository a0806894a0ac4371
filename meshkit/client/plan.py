"""How the calls of a channel are made: what the service config says, by method."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import final

from meshkit.client.budget import Budget, RetryLimits, Throttle
from meshkit.client.latency import LatencyQuantile
from meshkit.service_config import HedgingPolicy, MethodConfig, RetryPolicy, ServiceConfig

__all__ = ["Plan", "Plans"]


@final
class Plan:
    """How calls of one method are made. It lives as long as the channel and follows the config.

    Attributes:
        is_plain: nothing is said, so that a call has only this to look at.
        timeout: seconds that a call may take at most.
        wait_for_ready: for calls that do not say.
        retry: how failed calls are tried again.
        hedging: how slow calls are sent again.
        latency: the quantile of latencies that hedges wait for.
    """

    __slots__ = ("hedging", "is_plain", "latency", "retry", "timeout", "wait_for_ready")

    def __init__(self, config: MethodConfig) -> None:
        self.is_plain = True
        self.timeout: float | None = None
        self.wait_for_ready: bool | None = None
        self.retry: RetryPolicy | None = None
        self.hedging: HedgingPolicy | None = None
        self.latency: LatencyQuantile | None = None
        self.follow(config)

    def follow(self, config: MethodConfig) -> None:
        """Do from now on as `config` says; calls that have begun go on as they were."""
        self.timeout = config.timeout
        self.wait_for_ready = config.wait_for_ready
        self.retry = config.retry_policy
        if config.hedging_policy != self.hedging:
            self.hedging = config.hedging_policy
            percentile = self.hedging and self.hedging.hedging_percentile
            self.latency = None if percentile is None else LatencyQuantile(percentile / 100)
        said = (self.timeout, self.wait_for_ready, self.retry, self.hedging)
        self.is_plain = said == (None,) * len(said)


@final
class Plans:
    """The plans of one channel, and what all further attempts of its calls draw on.

    Attributes:
        limits: what further attempts may cost.
        budget: what can be paid for now.
        throttle: gRFC A6's, where it is configured.
        die: a random number from 0.0 to 1.0.
    """

    def __init__(
        self, config: ServiceConfig, limits: RetryLimits, rng: random.Random, now: float
    ) -> None:
        self.limits = limits
        self.budget = Budget(limits, now)
        self.throttle: Throttle | None = None
        self.die: Callable[[], float] = rng.random
        self._config = config
        self._by_path: dict[str, Plan] = {}
        self.adopt(config)

    def of(self, path: str) -> Plan:
        """The plan for the method at `path`; always the same one."""
        plan = self._by_path.get(path)
        if plan is None:
            plan = self._by_path[path] = Plan(self._config.for_method(path))
        return plan

    def failed(self) -> None:
        """Count an attempt that failed so that it might be repeated, or was told not to be."""
        self.budget.failed()
        if self.throttle is not None:
            self.throttle.failed()

    def adopt(self, config: ServiceConfig) -> None:
        """Follow another service config."""
        self._config = config
        for path, plan in self._by_path.items():
            plan.follow(config.for_method(path))
        policy = config.retry_throttling
        if policy is None:
            self.throttle = None
        else:
            self.throttle = self.throttle.under(policy) if self.throttle else Throttle(policy)
