"""Envoy as a child: found, started, drained."""

from meshkit.envoy.binary import find_envoy
from meshkit.envoy.envoy import Drain, Envoy, EnvoyFlags, envoy
from meshkit.envoy.process import Child, child

__all__ = ["Child", "Drain", "Envoy", "EnvoyFlags", "child", "envoy", "find_envoy"]
