"""The layout of go-zero's `core/discov`.

```text
hello.rpc/7587883412345678901  ->  10.0.0.5:8080
```

go-zero writes the lease id, or an id that was configured, as the last part, and reads any. The
value is an address and nothing else, so an endpoint's id is its address for whoever reads it.
Source: go-zero `core/discov/publisher.go`.
"""

from __future__ import annotations

import hashlib
from typing import final

from meshkit.endpoint import Endpoint
from meshkit.registry.layouts.layout import check_address
from meshkit.registry.layouts.plain import Plain

__all__ = ["GoZeroLayout"]


@final
class GoZeroLayout(Plain):
    """`<key>/<number>`, the address as the value."""

    name = "go-zero"
    slash = ""

    def encode(self, namespace: str, endpoint: Endpoint) -> tuple[str, bytes]:
        """Key and value; the number is made of the endpoint's id, and fits Go's int64."""
        digest = hashlib.blake2b(endpoint.id.encode(errors="surrogateescape"), digest_size=8)
        number = int.from_bytes(digest.digest()) >> 1
        value = check_address(endpoint.address).encode()
        return f"{self.prefix(namespace, endpoint.service)}{number}", value
