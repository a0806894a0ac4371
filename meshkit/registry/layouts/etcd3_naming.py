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
from meshkit.errors import ConfigError
from meshkit.registry.layouts.layout import (
    DEFAULT_NAMESPACE,
    check_address,
    check_name,
    read_text,
)

__all__ = ["Etcd3NamingLayout"]


@final
class Etcd3NamingLayout:
    """`/etcd3_naming/<service>/<host:port>`, the address again as the value."""

    def __init__(self, prefix: str = "/etcd3_naming") -> None:
        parts = prefix.strip("/").split("/")
        self._root = "".join(f"/{check_name('prefix', part)}" for part in parts) + "/"

    def root(self, namespace: str) -> str:
        """The prefix of all services; there is one namespace only."""
        if namespace != DEFAULT_NAMESPACE:
            raise ConfigError(
                f"layout etcd3_naming has no namespaces: {namespace!r} cannot be used; "
                "give another prefix as the path of the URL, or use layout=meshkit"
            )
        return self._root

    def prefix(self, namespace: str, service: str) -> str:
        """The prefix of all keys of `service`."""
        return f"{self.root(namespace)}{check_name('service', service)}/"

    def encode(self, namespace: str, endpoint: Endpoint) -> tuple[str, bytes]:
        """Key and value of the endpoint's address."""
        address = check_address(endpoint.address)
        return self.prefix(namespace, endpoint.service) + address, address.encode()

    def decode(self, service: str, key: str, value: bytes) -> Endpoint:
        """The endpoint at the address in `value`; `key` is not looked at."""
        del key  # some writers put another name there; the value is what they all dial
        address = check_address(read_text(value).strip())
        return Endpoint(service=service, id=address, address=address)
