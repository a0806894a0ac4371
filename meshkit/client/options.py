"""How a channel is made, and what it tells about itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, final

import grpc

from meshkit.balancer import (
    Balancer,
    Counts,
    Policy,
    Readiness,
    Resilience,
    Subsetting,
    ZoneAware,
    policy_named,
)
from meshkit.client.budget import RetryLimits
from meshkit.client.connection import ConnectionOptions
from meshkit.client.subchannel import Subchannel
from meshkit.endpoint import Endpoint
from meshkit.errors import ConfigError
from meshkit.fields import camel_case
from meshkit.service_config import ServiceConfig

__all__ = ["ChannelOptions", "ChannelStatus", "EndpointStatus"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelOptions:
    """How a channel balances and connects.

    Attributes:
        policy: the name of a balancing policy, such as `"round_robin"`, or a `Policy`; short for a
            service config with nothing else in it.
        service_config: how calls are made; stronger than what is published in the registry.
        default_service_config: the same; weaker than what is published.
        subset: to how many endpoints it connects; None: to all. In a mesh with a zone, to so many
            of that zone, and so many of others.
        zone: where the client is; "" does not prefer any.
        zone_aware: how endpoints of the same zone are preferred.
        connection: credentials, interceptors, compression and options of the connections.
        propagate_deadline: whether a call that is made while another is served gets at most the
            time that remains for that one.
        retry_limits: what retries and hedges may cost.
        resilience: outlier detection, circuit breaking, slow start; short for the fields of the
            service config.
        idle_timeout: seconds without a call after which all connections are closed, until the next
            call; they are not made before the first one, either. `math.inf`: only that. None: the
            channel is connected as long as it is open.
    """

    policy: str | Policy | None = None
    service_config: ServiceConfig | None = None
    default_service_config: ServiceConfig | None = None
    subset: int | None = None
    zone: str = ""
    zone_aware: ZoneAware | None = None
    connection: ConnectionOptions = field(default_factory=ConnectionOptions)
    propagate_deadline: bool = True
    retry_limits: RetryLimits = field(default_factory=RetryLimits)
    resilience: Resilience | None = None
    idle_timeout: float | None = None

    def __post_init__(self) -> None:
        if self.idle_timeout is not None and self.idle_timeout <= 0:
            raise ConfigError(f"idle_timeout must be more than 0 seconds, got {self.idle_timeout}")
        given = self.service_config or ServiceConfig()
        twice = [name for name in self._shorthands if getattr(given, name) is not None]
        if twice:
            raise ConfigError(
                f"give {camel_case(twice[0])} once: as an argument, or in the service config"
            )

    @property
    def config(self) -> ServiceConfig:
        """All that the code says of how calls are made."""
        return replace(self.service_config or ServiceConfig(), **self._shorthands)

    @property
    def _shorthands(self) -> dict[str, Any]:
        """Fields of a service config that were given as arguments."""
        found: dict[str, Any] = {}
        if isinstance(self.policy, str):
            found["load_balancing_config"] = policy_named(self.policy)
        elif self.policy is not None:
            found["load_balancing_config"] = self.policy
        if self.subset is not None:
            found["subsetting"] = Subsetting(subset_size=self.subset)
        if self.zone_aware is not None:
            found["zone_aware"] = self.zone_aware
        if self.resilience is not None:
            found |= {own.name: getattr(self.resilience, own.name) for own in fields(Resilience)}
        return found


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointStatus:
    """What a channel knows of one endpoint: its connection and the calls sent to it.

    Attributes:
        endpoint: as the registry describes it.
        readiness: of the connection.
        state: `ready`, or what keeps it from calls: the words of `Counts`.
        pending: calls under way.
        started: all calls so far, attempts counted one by one.
        failed: those that failed by the endpoint's fault.
        latency: seconds that a call takes, on the average of late; 0.0 before the first.
        success_rate: share of the calls of late that ended well, from 0.0 to 1.0.
        ejections: how often it was ejected.
    """

    endpoint: Endpoint
    readiness: Readiness
    state: str
    pending: int
    started: int
    failed: int
    latency: float
    success_rate: float
    ejections: int

    @classmethod
    def of(cls, node: Subchannel, balancer: Balancer[Subchannel]) -> EndpointStatus:
        """As `node` is now."""
        return cls(
            endpoint=node.endpoint,
            readiness=node.readiness,
            state=balancer.state_of(node),
            pending=node.pending,
            started=node.started,
            failed=node.failed,
            latency=node.latency,
            success_rate=node.success,
            ejections=balancer.ejections(node),
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
        known: endpoints that the registry has; more than `endpoints` when this is a subset.
        zones: which share of the calls each zone gets; empty if zones are not told apart.
        destinations: how many endpoints each destination of the routes has, by state; their names
            are such as `version v2, track=beta`.
        waiting: calls that wait for an endpoint.
        resting: calls that wait before they are tried again.
        unbounded: calls so far that had no deadline: nothing ends them if a server does not.
        service_config: what holds for its calls.
        config_sources: where each field of that comes from, by its path in JSON: `code`,
            `registry`, `mesh` (its default) or `default` (meshkit's).
    """

    service: str
    registry: str
    age: float | None
    trouble: str | None
    state: grpc.ChannelConnectivity
    endpoints: tuple[EndpointStatus, ...]
    known: int
    zones: Mapping[str, float]
    destinations: Mapping[str, Counts]
    waiting: int
    resting: int
    unbounded: int
    service_config: ServiceConfig
    config_sources: Mapping[str, str]
