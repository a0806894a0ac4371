"""etcd, spoken to through aetcd's generated messages over our own channels.

aetcd's client, watch and lease helpers are not used: they know one address and no TLS, wait
without bounds, and take a refused watch for a quiet one.
"""

from __future__ import annotations

from meshkit.registry.etcd.options import EtcdOptions
from meshkit.registry.etcd.store import EtcdStore

__all__ = ["EtcdOptions", "EtcdStore"]
