"""A lease is two clocks: when to renew it, and when it may be gone. No loop, no store in here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import final

__all__ = ["Lease"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right to stay announced, as last confirmed by the store.

    Both clocks count from when we *asked*, not from when the answer came: the store may have
    started its own clock at any moment in between. See etcd `client/v3/lease.go`.

    Attributes:
        id: the store's number for it.
        ttl: seconds it lives after a confirmation.
        granted_at: when it was asked for, in seconds of the caller's clock.
        confirmed_at: when the last answered request was sent, on the same clock.
    """

    id: int
    ttl: float
    granted_at: float
    confirmed_at: float

    @classmethod
    def granted(cls, lease: int, ttl: float, *, asked_at: float) -> Lease:
        """A new lease of `ttl` seconds, asked for at `asked_at`."""
        return cls(id=lease, ttl=ttl, granted_at=asked_at, confirmed_at=asked_at)

    def renewed(self, ttl: float, *, asked_at: float) -> Lease:
        """The same lease with `ttl` more seconds, asked for at `asked_at`."""
        return replace(self, ttl=ttl, confirmed_at=asked_at)

    @property
    def renew_at(self) -> float:
        """When to renew it: two more tries fit in before it expires."""
        return self.confirmed_at + self.ttl / 3

    @property
    def expires_at(self) -> float:
        """From when on nobody but the store knows whether it lives."""
        return self.confirmed_at + self.ttl
