"""The layout of Kratos.

```text
/microservices/hello/8b35  ->  {"id":"8b35","name":"hello","version":"v1",
                                "metadata":{"weight":"50"},"endpoints":["grpc://10.0.0.5:9000"]}
```

Kratos fails a whole list over one value that is no such JSON, so what is written is complete.
Source: Kratos `contrib/registry/etcd/registry.go`, `registry/registry.go`,
`selector/default_node.go` (weight: a text, 100 where it is missing).
"""

from __future__ import annotations

import json
from typing import Final, final
from urllib.parse import parse_qs, urlsplit

from meshkit.endpoint import Endpoint
from meshkit.registry.layouts.labels import label, labelled
from meshkit.registry.layouts.layout import Folder, check_address, check_name
from meshkit.registry.layouts.reading import read_labels, read_object

__all__ = ["KratosLayout"]

_SECURE: Final = "grpcs"


@final
class KratosLayout(Folder):
    """`/microservices/<name>/<id>` and the JSON of a `ServiceInstance`."""

    name = "kratos"
    default_prefix = "microservices"

    def encode(self, namespace: str, endpoint: Endpoint) -> tuple[str, bytes]:
        """Key and value. A label `tls=true` makes the scheme `grpcs`."""
        labels = label(endpoint, but=["version"])
        scheme = _SECURE if labels.pop("tls", "") == "true" else "grpc"
        value = {
            "id": endpoint.id,
            "name": endpoint.service,
            "version": endpoint.version,
            "metadata": labels,
            "endpoints": [f"{scheme}://{check_address(endpoint.address)}"],
        }
        key = self.prefix(namespace, endpoint.service) + check_name("endpoint id", endpoint.id)
        return key, json.dumps(value, separators=(",", ":")).encode()

    def decode(self, service: str, key: str, value: bytes) -> Endpoint:
        """The first gRPC endpoint of an instance; its others, HTTP say, are not looked at."""
        instance = read_object(value)
        address, secure = _grpc(instance.get("endpoints"))
        endpoint_id = instance.get("id")
        if not isinstance(endpoint_id, str) or not endpoint_id:
            endpoint_id = key.rpartition("/")[2]
        version = instance.get("version")
        endpoint = Endpoint(
            service=service,
            id=check_name("endpoint id", endpoint_id),
            address=address,
            version=version if isinstance(version, str) else "",
        )
        labels = read_labels(instance.get("metadata"))
        labels.pop("version", None)
        return labelled(endpoint, labels | ({"tls": "true"} if secure else {}))


def _grpc(urls: object) -> tuple[str, bool]:
    """The address of the first gRPC URL, and whether it wants TLS."""
    for url in urls if isinstance(urls, list) else ():
        if isinstance(url, str) and url.startswith(("grpc://", "grpcs://")):
            parts = urlsplit(url)
            old = parse_qs(parts.query).get("isSecure") == ["true"]
            return check_address(parts.netloc), old or parts.scheme == _SECURE
    raise ValueError("no endpoint with grpc://")
