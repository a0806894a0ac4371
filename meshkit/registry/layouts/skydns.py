"""The layout of SkyDNS, which CoreDNS serves by DNS.

```text
/skydns/local/mesh/hello/7f3a
    ->  {"host":"10.0.0.5","port":50051,"priority":10,"weight":100,"ttl":30}
```

The domain stands reversed in the key: this is `7f3a.hello.mesh.local`, and `hello.mesh.local` has
all of the service. CoreDNS fails a whole answer over one value that is no such JSON.
Source: CoreDNS `plugin/etcd/msg/service.go`.
"""

from __future__ import annotations

import json
import re
from typing import Final, final

from meshkit.endpoint import DEFAULT_WEIGHT, Endpoint
from meshkit.errors import ConfigError
from meshkit.registry.address import split_address
from meshkit.registry.layouts.layout import WEIGHT, Folder, check_address, check_name
from meshkit.registry.layouts.reading import read_host_port, read_object, read_weight

__all__ = ["SkyDNSLayout"]

_PRIORITY: Final = 10  # CoreDNS's own default
_TTL: Final = 30  # seconds; what CoreDNS answers at least where a lease is shorter
_MAX_WEIGHT: Final = 65535  # of an SRV record
_LABEL: Final = re.compile(r"[a-zA-Z0-9_]([a-zA-Z0-9_-]{0,61}[a-zA-Z0-9_])?")


@final
class SkyDNSLayout(Folder):
    """`/skydns/<domain, reversed>/<service>/<endpoint id>` and the JSON of a record."""

    name = "skydns"
    detail = WEIGHT
    default_prefix = "skydns/local/mesh"

    def encode(self, namespace: str, endpoint: Endpoint) -> tuple[str, bytes]:
        """Key and value; service and id have to be labels of DNS."""
        for name in (endpoint.service, endpoint.id):
            if not _LABEL.fullmatch(name):
                raise ConfigError(f"{name!r} is no label of DNS, as layout {self.name} needs it")
        if not 1 <= endpoint.weight <= _MAX_WEIGHT:
            raise ConfigError(f"layout {self.name} has weights from 1 to {_MAX_WEIGHT}")
        host, port = split_address(check_address(endpoint.address))
        value = {
            "host": host,
            "port": port,
            "priority": _PRIORITY,
            "weight": endpoint.weight,
            "ttl": _TTL,
        }
        key = self.prefix(namespace, endpoint.service) + endpoint.id
        return key, json.dumps(value, separators=(",", ":")).encode()

    def decode(self, service: str, key: str, value: bytes) -> Endpoint:
        """The record's host and port; one without a port, for A records only, is none of ours."""
        record = read_object(value)
        return Endpoint(
            service=service,
            id=check_name("endpoint id", key.rpartition("/")[2]),
            address=check_address(read_host_port(record)),
            weight=read_weight(record.get("weight") or DEFAULT_WEIGHT),
        )
