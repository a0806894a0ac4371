"""Policies by the names that configurations use."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from meshkit.balancer.policies.p2c import PowerOfTwo
from meshkit.balancer.policies.policy import Policy
from meshkit.balancer.policies.round_robin import RoundRobin
from meshkit.errors import ConfigError

__all__ = ["POLICIES", "policy_named"]

POLICIES: Final[Mapping[str, type[Policy]]] = MappingProxyType(
    {"p2c": PowerOfTwo, "round_robin": RoundRobin}
)
"""Frozen dataclasses by name; their fields are the parameters that a service config may give.

A policy with two names stands with that first by which it is to be written.
"""


def policy_named(name: str) -> Policy:
    """The policy that a configuration calls `name`, with its default parameters.

    Raises:
        ConfigError: there is none; the text lists those there are.
    """
    try:
        return POLICIES[name]()
    except KeyError:
        raise ConfigError(f"no balancing policy {name!r}; use one of {sorted(POLICIES)}") from None
