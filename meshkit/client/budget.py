"""What retries and hedges may cost: pure, with the time as an argument.

Retries help against the odd failure and make an overload worse, so each is paid for. There are two
purses. The budget is always there: a share of the calls, and a few per second for clients that
make hardly any (after Finagle's RetryBudget, which pays those in an outage, too). The throttle is
gRFC A6's, where it is configured.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Self, final

from meshkit.errors import ConfigError
from meshkit.service_config import RetryThrottling

__all__ = ["Budget", "RetryLimits", "Throttle"]

_MEMORY: Final = 0.2  # seconds; calls are forgotten with this time constant
_STEP: Final = 0.001  # seconds; less makes no difference, and each call would pay for it
_FEW: Final = 2.5  # attempts that are remembered even of clients that make hardly any calls


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RetryLimits:
    """What retries and hedges of one channel may cost, whatever the service config says.

    Attributes:
        share: further attempts for each call that may be tried again.
        per_second: further attempts per second beside those, while they are worth it: all while at
            least half of the attempts end well, none when everything fails.
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
    and those that were saved up before: `per_second` + 1, and what the calls of 0.2 seconds earn.
    That is little, so that an outage does not begin with a storm, and enough to try again what is
    under way at one of three servers when it dies, if calls take up to 0.1 s.

    The attempts per second are for clients that make few calls, where some endpoints fail and
    others answer: all that are left while at least half of the last attempts ended well, fewer
    below, and none when everything fails. So in an outage of 10 s there are at most 1.25 attempts
    for each call of a client that makes 10 a second or more.
    """

    __slots__ = ("_at", "_earned", "_limits", "_recent", "_spare", "_well")

    def __init__(self, limits: RetryLimits, now: float) -> None:
        self._limits = limits
        self._at = now
        self._recent = 0.0  # calls; the longer ago, the less they count
        self._earned = 0.0
        self._spare = limits.per_second
        self._well = 1.0  # share of the last attempts that ended well

    def earn(self, now: float) -> None:
        """Count a call that may be tried again."""
        self._pass_to(now)
        self._recent += 1.0
        self._earned += self._limits.share

    def spend(self, now: float) -> bool:
        """Pay for one further attempt; False: there is nothing to pay with."""
        self._pass_to(now)
        worth = min(1.0, 2.0 * self._well)
        if self._earned >= 1.0:
            self._earned -= 1.0
        elif self._earned + self._spare * worth >= 1.0:
            self._spare -= 1.0 - self._earned
            self._earned = 0.0
        else:
            return False
        return True

    def ended(self) -> None:
        """Count an attempt that has ended: well, unless `failed` follows."""
        if self._well < 1.0:
            self._well += (1.0 - self._well) * self._weight

    def failed(self) -> None:
        """Count an attempt that failed so that it might be repeated, or was told not to be."""
        self._well = max(0.0, self._well - self._weight)

    @property
    def _weight(self) -> float:
        """What one attempt counts; less where many calls, and many failures, come at once."""
        return 1.0 / max(_FEW, self._recent / 4.0)

    def _pass_to(self, now: float) -> None:
        passed = now - self._at
        if passed >= _STEP:
            self._at = now
            limits = self._limits
            self._recent *= math.exp(-passed / _MEMORY)
            self._earned = min(self._earned, max(1.0, limits.share * self._recent))
            most = max(1.0, limits.per_second)
            self._spare = min(most, self._spare + passed * limits.per_second)


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
