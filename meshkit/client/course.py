"""How far a call has come in its retry policy (gRFC A6): pure, with the die as an argument."""

from __future__ import annotations

import re
from typing import Final, final

from meshkit.service_config import RetryPolicy

__all__ = ["PUSHBACK", "Course", "pushback_of"]

PUSHBACK: Final = "grpc-retry-pushback-ms"
_MILLISECONDS: Final = re.compile(r"0|[1-9][0-9]{0,9}")


def pushback_of(value: str | bytes | None) -> float | None:
    """Seconds that a server asks to wait before the next attempt; None: it says nothing.

    Negative: there shall be none. A value that is no signed 32-bit number without unnecessary
    zeros says that as well.
    """
    if value is None:
        return None
    text = value.decode("latin-1") if isinstance(value, bytes) else value
    number = int(text) if _MILLISECONDS.fullmatch(text) else -1
    return number / 1000 if 0 <= number < 2**31 else -1.0


@final
class Course:
    """The attempts of one call under a retry policy.

    Attributes:
        attempts: how many were begun; those that no server has seen do not count.
    """

    __slots__ = ("_growth", "_policy", "attempts")

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self._growth = 1.0
        self.attempts = 1

    def is_failure(self, code: str, pushback: float | None) -> bool:
        """Whether an attempt that ended so counts as a failure of the server."""
        told_not_to = pushback is not None and pushback < 0
        return code in self._policy.retryable_status_codes or told_not_to

    def next_wait(self, code: str, pushback: float | None, die: float) -> float | None:
        """Seconds until the next attempt; None if there is none.

        The delay grows exponentially and is drawn with full jitter, from 0 to what gRFC A6 calls
        the backoff: its +-20 % would let the calls that failed together return together. A server
        that asks for a delay gets exactly that, and growth begins anew.

        Args:
            code: the name of the status that the last attempt ended with.
            pushback: what its server asked for, as `pushback_of` has it.
            die: a random number from 0.0 to 1.0.
        """
        policy = self._policy
        if code not in policy.retryable_status_codes or self.attempts >= policy.max_attempts:
            return None
        if pushback is not None:
            self._growth = 1.0
            return pushback if pushback >= 0 else None
        longest = min(policy.initial_backoff * self._growth, policy.max_backoff)
        self._growth *= policy.backoff_multiplier
        return longest * die
