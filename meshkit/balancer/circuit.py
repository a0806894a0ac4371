"""Circuit breaking: more calls at a time than a service should have to bear are refused here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, final

from meshkit.fields import Integer, check

__all__ = ["CircuitBreaker"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitBreaker:
    """How many calls one client has under way at a time, at most (gRFC A32, per endpoint too).

    Both are off: a stream counts as long as it lasts, and a number that nobody chose for a
    service is sooner or later an outage of its own.

    Attributes:
        max_requests: calls to the whole service; None: any number.
        max_requests_per_endpoint: calls to one endpoint; others take what is more. None: any
            number.
    """

    max_requests: Annotated[int, Integer(1)] | None = None
    max_requests_per_endpoint: Annotated[int, Integer(1)] | None = None

    def __post_init__(self) -> None:
        check(self)

    @property
    def is_on(self) -> bool:
        """Whether there is any limit."""
        return self.max_requests is not None or self.max_requests_per_endpoint is not None

    def is_open(self, in_flight: int) -> bool:
        """Whether a service with `in_flight` calls under way can take no other."""
        return self.max_requests is not None and in_flight >= self.max_requests

    def is_full(self, pending: int) -> bool:
        """Whether an endpoint with `pending` calls can take no other."""
        most = self.max_requests_per_endpoint
        return most is not None and pending >= most

    def refusal(self, in_flight: int) -> str:
        """Which limit leaves no endpoint for a call, with `in_flight` calls to the service."""
        if self.is_open(in_flight):
            return f"{in_flight} are under way, as many as max_requests allows"
        return (
            f"each endpoint that could take it has {self.max_requests_per_endpoint} under way, as "
            "many as max_requests_per_endpoint allows"
        )


@final
class InFlight:
    """The calls of one client to a whole service that are under way.

    Attributes:
        pending: how many; the nodes count them.
        freed: the nodes call it after each that ends; None while nobody wants to know.
    """

    __slots__ = ("freed", "pending")

    def __init__(self) -> None:
        self.pending = 0
        self.freed: Callable[[], object] | None = None
