"""The two layouts of Dubbo: by interface, and by application.

```text
/dubbo/org.x.Greeter/providers/tri%3A%2F%2F10.0.0.5%3A20000%2Forg.x.Greeter%3F...   ->  (empty)
/services/demo-app/10.0.0.5:20000  ->  {"ID":"10.0.0.5:20000","ServiceName":"demo-app",...}
```

`tri`, Dubbo's Triple, is what gRPC programs can call and be called by. Sources: dubbo-go
`registry/{base_registry,etcdv3}`, `registry/service_instance.go`; dubbo-spi-extensions'
`EtcdServiceDiscovery` (Java), whose field names begin in lower case.
"""

from __future__ import annotations

import json
from typing import Final, final
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from meshkit.endpoint import Endpoint
from meshkit.registry.address import split_address
from meshkit.registry.layouts.labels import label, labelled
from meshkit.registry.layouts.layout import Folder, check_address
from meshkit.registry.layouts.reading import (
    read_host_port,
    read_labels,
    read_object,
    read_weight,
)

__all__ = ["DubboApplicationLayout", "DubboLayout"]

_TRIPLE: Final = "tri"


@final
class DubboLayout(Folder):
    """`/dubbo/<interface>/providers/<URL>`, no value: all is in the key, and stays as it is.

    So there is no word for a server that is about to leave.
    """

    name = "dubbo"
    default_prefix = "dubbo"

    def prefix(self, namespace: str, service: str) -> str:
        """The prefix of the providers of an interface."""
        return f"{super().prefix(namespace, service)}providers/"

    def encode(self, namespace: str, endpoint: Endpoint) -> tuple[str, bytes]:
        """The key; the value is empty."""
        service = endpoint.service
        about = {
            "anyhost": "true",
            "interface": service,
            "side": "provider",
            "weight": str(endpoint.weight),
        }
        parameters = label(endpoint, but=["state"]) | about
        query = urlencode(sorted(parameters.items()))
        url = f"{_TRIPLE}://{check_address(endpoint.address)}/{service}?{query}"
        return self.prefix(namespace, service) + quote(url, safe=""), b""

    def decode(self, service: str, key: str, value: bytes) -> Endpoint:
        """The provider that a key describes."""
        del value
        parts = urlsplit(unquote(key.rpartition("/")[2], errors="strict"))
        if parts.scheme != _TRIPLE:
            raise ValueError(f"the protocol is not {_TRIPLE}")
        labels = dict(parse_qsl(parts.query))
        for name in ("anyhost", "interface", "side"):
            labels.pop(name, None)
        address = check_address(parts.netloc)
        return labelled(Endpoint(service=service, id=address, address=address), labels)


@final
class DubboApplicationLayout(Folder):
    """`/services/<application>/<host:port>` and the JSON of a service instance."""

    name = "dubbo-app"
    default_prefix = "services"

    def encode(self, namespace: str, endpoint: Endpoint) -> tuple[str, bytes]:
        """Key and value."""
        address = check_address(endpoint.address)
        host, port = split_address(address)
        protocols = json.dumps([{"port": port, "protocol": _TRIPLE}], separators=(",", ":"))
        value = {
            "ID": address,
            "ServiceName": endpoint.service,
            "Host": host,
            "Port": port,
            "Weight": endpoint.weight,
            "Enable": True,
            "Healthy": True,
            "Metadata": {"dubbo.endpoints": protocols} | label(endpoint, but=["weight"]),
        }
        key = self.prefix(namespace, endpoint.service) + address
        return key, json.dumps(value, separators=(",", ":")).encode()

    def decode(self, service: str, key: str, value: bytes) -> Endpoint:
        """The instance in `value`, of dubbo-go or of Java; `key` is not looked at."""
        del key
        instance = read_object(value)
        if False in (instance.get("enable"), instance.get("enabled"), instance.get("healthy")):
            raise ValueError("the instance is switched off")
        address = check_address(read_host_port(instance))
        endpoint = Endpoint(service=service, id=address, address=address)
        labels = read_labels(instance.get("metadata"))
        labels.pop("dubbo.endpoints", None)
        if (weight := instance.get("weight")) is not None:
            labels["weight"] = str(read_weight(weight))
        return labelled(endpoint, labels)
