"""The layout of the widely copied `etcd3_naming` examples.

```text
/etcd3_naming/hello_service/127.0.0.1:50001  ->  127.0.0.1:50001
```

It carries an address and nothing else: weight, zone, version and labels are not written, and an
endpoint's id is its address for whoever reads it.
"""

from __future__ import annotations

from typing import final

from meshkit.endpoint import Endpoint
from meshkit.registry.layouts.layout import check_address
from meshkit.registry.layouts.plain import Plain

__all__ = ["Etcd3NamingLayout"]


@final
class Etcd3NamingLayout(Plain):
    """`/etcd3_naming/<service>/<host:port>`, the address again as the value."""

    name = "etcd3_naming"
    default_prefix = "etcd3_naming"

    def encode(self, namespace: str, endpoint: Endpoint) -> tuple[str, bytes]:
        """Key and value of the endpoint's address."""
        address = check_address(endpoint.address)
        return self.prefix(namespace, endpoint.service) + address, address.encode()
