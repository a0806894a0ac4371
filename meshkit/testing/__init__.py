"""For tests of programs that use meshkit: registries that fail on request, proxies, clocks.

The pytest plugin has three fixtures on top: `mesh_url`, `mesh_registry` and `etcd_url`.
"""

from meshkit.registry.memory import MemoryStore
from meshkit.testing.clock import FakeClock
from meshkit.testing.cluster import etcd_cluster
from meshkit.testing.etcd import EtcdProcess, find_etcd, free_ports
from meshkit.testing.memory import memory_registry
from meshkit.testing.proxy import TcpProxy
from meshkit.testing.virtual_clock import VirtualClockLoop

__all__ = [
    "EtcdProcess",
    "FakeClock",
    "MemoryStore",
    "TcpProxy",
    "VirtualClockLoop",
    "etcd_cluster",
    "find_etcd",
    "free_ports",
    "memory_registry",
]
