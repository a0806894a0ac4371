"""Policies by the names that configurations use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from meshkit.balancer.policies.p2c import PowerOfTwo
from meshkit.balancer.policies.policy import Policy
from meshkit.balancer.policies.round_robin import RoundRobin
from meshkit.errors import ConfigError

__all__ = ["policy_named"]

_BY_NAME: Final[Mapping[str, Callable[[], Policy]]] = MappingProxyType(
    {"p2c": PowerOfTwo, "round_robin": RoundRobin}
)


def policy_named(name: str) -> Policy:
    """The policy that a configuration calls `name`, with its default parameters.

    Raises:
        ConfigError: there is none; the text lists those there are.
    """
    try:
        return _BY_NAME[name]()
    except KeyError:
        raise ConfigError(f"no balancing policy {name!r}; use one of {sorted(_BY_NAME)}") from None
