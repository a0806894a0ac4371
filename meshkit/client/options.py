"""How a channel is made, and what it tells about itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import final

import grpc

from meshkit.balancer import DEFAULT_POLICY, Policy, Readiness
from meshkit.client.connection import ConnectionOptions
from meshkit.client.subchannel import Subchannel
from meshkit.endpoint import Endpoint

__all__ = ["ChannelOptions", "ChannelStatus", "EndpointStatus"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelOptions:
    """How a channel balances and connects.

    Attributes:
        policy: the name of a balancing policy, such as `"round_robin"`, or a `Policy`.
        connection: credentials, interceptors, compression and options of the connections.
        propagate_deadline: whether a call that is made while another is served gets at most the
            time that remains for that one.
    """

    policy: str | Policy = DEFAULT_POLICY
    connection: ConnectionOptions = field(default_factory=ConnectionOptions)
    propagate_deadline: bool = True


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointStatus:
    """What a channel knows of one endpoint: its connection and the calls sent to it."""

    endpoint: Endpoint
    readiness: Readiness
    pending: int
    started: int
    failed: int

    @classmethod
    def of(cls, node: Subchannel) -> EndpointStatus:
        """As `node` is now."""
        return cls(
            endpoint=node.endpoint,
            readiness=node.readiness,
            pending=node.pending,
            started=node.started,
            failed=node.failed,
        )


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelStatus:
    """A channel's state at one moment.

    Attributes:
        service: the service's name.
        registry: where its endpoints come from.
        age: seconds since the registry last confirmed them; None if it never has.
        trouble: why the registry cannot be followed now; None while it can.
        state: as `get_state` tells it.
        endpoints: each endpoint's connection and calls, in order of id.
        waiting: calls that wait for an endpoint.
    """

    service: str
    registry: str
    age: float | None
    trouble: str | None
    state: grpc.ChannelConnectivity
    endpoints: tuple[EndpointStatus, ...]
    waiting: int
