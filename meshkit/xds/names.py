"""Names of resources, and the two families of clients."""

from __future__ import annotations

import enum
from typing import Final, final
from urllib.parse import quote

from meshkit.balancer import Selector
from meshkit.errors import ConfigError
from meshkit.registry.layouts.layout import check_name

__all__ = ["BY_AUTHORITY", "Family", "cluster_name", "is_service_name", "service_of"]

BY_AUTHORITY: Final = "/"
"""The routes of ports whose calls name their service; no service has a "/" in its name."""

_SUBSET: Final = "|"


@final
class Family(enum.Enum):
    """Who asks: the same service looks different to a gRPC client and to a proxy."""

    GRPC = "grpc"
    ENVOY = "envoy"

    @classmethod
    def of(cls, user_agent: str) -> Family:
        """By what clients call themselves: `envoy`, `gRPC Go`, `gRPC C-core linux Python`."""
        return cls.ENVOY if user_agent.lower().startswith("envoy") else cls.GRPC


def cluster_name(service: str, selector: Selector) -> str:
    """Of the endpoints of `service` that `selector` takes: `svc`, `svc|version=v2&track=beta`."""
    said = {"version": selector.version} if selector.version else {}
    pairs = (*said.items(), *((f".{key}", value) for key, value in sorted(selector.labels)))
    if not pairs:
        return service
    words = "&".join(f"{quote(key, safe='.')}={quote(value, safe='')}" for key, value in pairs)
    return f"{service}{_SUBSET}{words}"


def service_of(name: str) -> str:
    """The service that a resource of this name belongs to."""
    return name.partition(_SUBSET)[0]


def is_service_name(name: str) -> bool:
    """Whether a service could have this name; it may have no endpoints yet."""
    try:
        return _SUBSET not in name and name != "*" and bool(check_name("service", name))
    except ConfigError:
        return False
