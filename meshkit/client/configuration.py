"""What holds for the calls of one channel, of all that was said about its service."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import final

from meshkit.balancer import Policy, Resilience, ZoneAware
from meshkit.client.connection import for_core
from meshkit.client.options import ChannelOptions
from meshkit.service_config import DEFAULTS, Route, ServiceConfig, merge

__all__ = ["Configuration"]


@final
class Configuration:
    """What the code says, else what the registry does, else the mesh's default, else meshkit's.

    Attributes:
        published: what the registry says.
        config: what holds.
        sources: where each field of it comes from: `code`, `registry`, `mesh` or `default`.
        connection: how connections are made from now on.
    """

    def __init__(self, options: ChannelOptions) -> None:
        self._code = options.config
        self._mesh = options.default_service_config
        self.connection = options.connection
        self.adopt(None)

    def adopt(self, published: ServiceConfig | None) -> None:
        """Take what the registry says now."""
        self.published = published
        merged = merge(
            {"code": self._code, "registry": published, "mesh": self._mesh, "default": DEFAULTS}
        )
        self.config, self.sources = merged.config, merged.sources
        self.connection = replace(self.connection, core_options=for_core(self.config))

    @property
    def policy(self) -> Policy:
        """Which endpoint takes a call."""
        policy = self.config.load_balancing_config
        assert policy is not None  # noqa: S101 -- the default says one
        return policy

    @property
    def reads_reports(self) -> bool:
        """Whether that policy looks at what servers report of their load."""
        return bool(getattr(self.policy, "reads_reports", False))

    @property
    def routes(self) -> tuple[Route, ...]:
        """Which calls go to which endpoints."""
        return self.config.routes or ()

    @property
    def subset(self) -> int | None:
        """To how many endpoints the channel connects; None: to all."""
        subsetting = self.config.subsetting
        return None if subsetting is None else subsetting.subset_size

    @property
    def zone_aware(self) -> ZoneAware:
        """How endpoints of the own zone are preferred."""
        return self.config.zone_aware or ZoneAware()

    @property
    def resilience(self) -> Resilience:
        """What is done around the policy's choice."""
        names = (field.name for field in fields(Resilience))
        return Resilience(**{name: getattr(self.config, name) for name in names})
