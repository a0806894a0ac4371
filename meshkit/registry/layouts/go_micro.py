"""The layout of go-micro.

```text
/micro/registry/hello/hello-7f3a
    ->  {"name":"hello","version":"latest","metadata":null,"endpoints":[],"nodes":[
         {"metadata":{"protocol":"grpc",...},"id":"hello-7f3a","address":"10.0.0.5:9090"}]}
```

Source: go-micro `registry/etcd/etcd.go`, `registry/registry.go`, `server/grpc/grpc.go`.
"""

from __future__ import annotations

import json
from typing import Any, Final, final

from meshkit.endpoint import Endpoint
from meshkit.registry.layouts.labels import label, labelled
from meshkit.registry.layouts.layout import Folder, check_address, check_name
from meshkit.registry.layouts.reading import read_labels, read_object

__all__ = ["GoMicroLayout"]

# What go-micro's own gRPC server says of itself; its selector looks at `protocol`.
_ABOUT: Final = {
    "protocol": "grpc",
    "transport": "grpc",
    "server": "grpc",
    "registry": "etcd",
    "broker": "http",
}
_ANY_VERSION: Final = "latest"


@final
class GoMicroLayout(Folder):
    """`/micro/registry/<service>/<service>-<id>` and the JSON of a service with one node."""

    name = "go-micro"
    default_prefix = "micro/registry"

    def encode(self, namespace: str, endpoint: Endpoint) -> tuple[str, bytes]:
        """Key and value."""
        node_id = f"{endpoint.service}-{check_name('endpoint id', endpoint.id)}"
        node = {
            "metadata": _ABOUT | label(endpoint, but=["version", *_ABOUT]),
            "id": node_id,
            "address": check_address(endpoint.address),
        }
        value = {
            "name": endpoint.service,
            "version": endpoint.version or _ANY_VERSION,
            "metadata": None,
            "endpoints": [],
            "nodes": [node],
        }
        key = self.prefix(namespace, endpoint.service) + node_id
        return key, json.dumps(value, separators=(",", ":")).encode()

    def decode(self, service: str, key: str, value: bytes) -> Endpoint:
        """The node of a service; one of `mucp`, go-micro's own protocol, is none of ours."""
        written = read_object(value)
        node = _only(written.get("nodes"))
        labels = read_labels(node.get("metadata"))
        if labels.get("protocol", "grpc") != "grpc":
            raise ValueError("the node's protocol is not grpc")
        address, node_id = node.get("address"), node.get("id")
        if not isinstance(address, str):
            raise ValueError("address is missing or no text")  # noqa: TRY004 -- bad data
        if not isinstance(node_id, str):
            node_id = key.rpartition("/")[2]
        version = written.get("version")
        endpoint = Endpoint(
            service=service,
            id=check_name("endpoint id", node_id.removeprefix(f"{service}-")),
            address=check_address(address),
            version=version if isinstance(version, str) and version != _ANY_VERSION else "",
        )
        free = {name: text for name, text in labels.items() if name not in {*_ABOUT, "version"}}
        return labelled(endpoint, free)


def _only(nodes: object) -> dict[str, Any]:
    if not isinstance(nodes, list) or len(nodes) != 1 or not isinstance(nodes[0], dict):
        raise ValueError("not one node")
    return nodes[0]
