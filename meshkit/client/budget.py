"""What retries and hedges may cost: pure, with the time as an argument.

Retries help against the odd failure and make an overload worse, so each is paid for. There are two
purses. The budget is always there: a share of the calls, and a few per second for clients that
make hardly any (after Finagle's RetryBudget). The throttle is gRFC A6's, where it is configured.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Self, final

from meshkit.errors import ConfigError
from meshkit.service_config import RetryThrottling

__all__ = ["Budget", "RetryLimits", "Throttle"]

_MEMORY: Final = 10.0  # seconds; what was earned fades with this time constant


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RetryLimits:
    """What retries and hedges of one channel may cost, whatever the service config says.

    Attributes:
        share: further attempts for each call that may be tried again.
        per_second: further attempts per second beside those.
        buffer: bytes of requests that one call keeps to send them again; a call that has sent more
            stays where it is.
    """

    share: float = 0.2
    per_second: float = 10.0
    buffer: int = 256 * 1024

    def __post_init__(self) -> None:
        for name, value in (("share", self.share), ("per_second", self.per_second)):
            if not 0 <= value < math.inf:
                raise ConfigError(f"retry limits: {name} must be 0 or more, got {value}")
        if self.buffer < 0:
            raise ConfigError(f"retry limits: buffer must be 0 or more bytes, got {self.buffer}")


@final
class Budget:
    """The further attempts that a channel can pay for now.

    Over any stretch of time there are at most `share` x calls + `per_second` x seconds of them,
    and `per_second` + 1 more. What calls have earned is worth half after 7 seconds, so that a
    quiet night pays for no storm in the morning.
    """

    __slots__ = ("_at", "_earned", "_limits", "_spare")

    def __init__(self, limits: RetryLimits, now: float) -> None:
        self._limits = limits
        self._earned = 0.0
        self._spare = limits.per_second
        self._at = now

    def earn(self, now: float) -> None:
        """Count a call that may be tried again."""
        self._pass_to(now)
        self._earned += self._limits.share

    def spend(self, now: float) -> bool:
        """Pay for one further attempt; False: there is nothing to pay with."""
        self._pass_to(now)
        if self._earned >= 1.0:
            self._earned -= 1.0
        elif self._earned + self._spare >= 1.0:
            self._spare -= 1.0 - self._earned
            self._earned = 0.0
        else:
            return False
        return True

    def _pass_to(self, now: float) -> None:
        passed = now - self._at
        if passed > 0:
            self._at = now
            self._earned *= math.exp(-passed / _MEMORY)
            per_second = self._limits.per_second
            self._spare = min(max(per_second, 1.0), self._spare + passed * per_second)


@final
class Throttle:
    """gRFC A6's retry throttling: no further attempts while too many fail.

    Args:
        policy: how many tokens there are, and what a success gives back.
        fill: how full it is, from 0.0 to 1.0.
    """

    __slots__ = ("_max", "_ratio", "_tokens")

    def __init__(self, policy: RetryThrottling, fill: float = 1.0) -> None:
        self._max = float(policy.max_tokens)
        self._ratio = policy.token_ratio
        self._tokens = self._max * fill

    @property
    def allows(self) -> bool:
        """Whether more than half of the tokens are there."""
        return self._tokens > self._max / 2

    def succeeded(self) -> None:
        """Count a call that ended well."""
        self._tokens = min(self._max, self._tokens + self._ratio)

    def failed(self) -> None:
        """Count an attempt that failed so that it might be repeated, or was told not to be."""
        self._tokens = max(0.0, self._tokens - 1.0)

    def under(self, policy: RetryThrottling) -> Self:
        """The same, as full as it is, under another policy."""
        return type(self)(policy, self._tokens / self._max)
