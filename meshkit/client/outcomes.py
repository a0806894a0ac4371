"""Events that tell what the ends of calls have led to."""

from __future__ import annotations

from meshkit.balancer import Ejected, Outcome
from meshkit.client.subchannel import Subchannel
from meshkit.events import EndpointEjected, EndpointReadmitted, Event

__all__ = ["event_of"]


def event_of(outcome: Outcome[Subchannel]) -> Event:
    """The event of an ejection, or of its end."""
    endpoint = outcome.node.endpoint
    if isinstance(outcome, Ejected):
        return EndpointEjected(endpoint, outcome.seconds, outcome.reason)
    return EndpointReadmitted(endpoint, outcome.seconds)
