"""The default layout: etcd's official Go naming, with meshkit's fields in its `Metadata`.

```text
meshkit/default/hello_service/7f3a  ->  {"Op":0,"Addr":"10.0.0.1:50051","Metadata":{"weight":50}}
```

A stock Go client dials it (`go.etcd.io/etcd/client/v3/naming/resolver`, target
`etcd:///meshkit/default/hello_service`), and what its endpoint manager writes is read here.
Source: etcd `client/v3/naming/endpoints/internal/update.go`.
"""

from __future__ import annotations

import json
from typing import ClassVar, Final, final

from meshkit.endpoint import DEFAULT_WEIGHT, Endpoint, State
from meshkit.errors import ConfigError
from meshkit.registry.layouts.layout import ALL, check_address, check_name
from meshkit.registry.layouts.reading import MAX_WEIGHT, read_labels, read_object, read_weight

__all__ = ["MeshkitLayout"]

_MAX_SECONDS: Final = 86400.0
_PUT, _DELETE = 0, 1  # Go's `Operation`; Op 1 is a marker of its own old protocol


@final
class MeshkitLayout:
    """`<prefix>/<namespace>/<service>/<endpoint id>` and the JSON of Go's naming package."""

    name: ClassVar[str] = "meshkit"
    detail: ClassVar[int] = ALL

    def __init__(self, prefix: str = "meshkit") -> None:
        parts = prefix.strip("/").split("/")
        self._prefix = "/".join(check_name("prefix", part) for part in parts)

    def root(self, namespace: str) -> str:
        """The prefix of all services of `namespace`."""
        return f"{self._prefix}/{check_name('namespace', namespace)}/"

    def prefix(self, namespace: str, service: str) -> str:
        """The prefix of all keys of `service`."""
        return f"{self.root(namespace)}{check_name('service', service)}/"

    def config_key(self, namespace: str, service: str) -> str:
        """The parent of the keys of all endpoints, which no reader of endpoints looks at."""
        return self.prefix(namespace, service).removesuffix("/")

    def encode(self, namespace: str, endpoint: Endpoint) -> tuple[str, bytes]:
        """Key and value; of the fields only what differs from its default."""
        if endpoint.weight > MAX_WEIGHT:
            raise ConfigError(f"weight {endpoint.weight} is more than {MAX_WEIGHT}")
        fields = {
            "weight": endpoint.weight if endpoint.weight != DEFAULT_WEIGHT else None,
            "zone": endpoint.zone or None,
            "version": endpoint.version or None,
            "state": endpoint.state.value if endpoint.state is not State.SERVING else None,
            "keepalive": endpoint.keepalive or None,
            "labels": dict(sorted(endpoint.metadata.items())) or None,
        }
        if not 0 <= endpoint.keepalive <= _MAX_SECONDS:
            raise ConfigError(f"keepalive {endpoint.keepalive} is out of 0..{_MAX_SECONDS:g} s")
        value = {
            "Op": _PUT,
            "Addr": check_address(endpoint.address),
            "Metadata": {name: field for name, field in fields.items() if field is not None},
        }
        key = self.prefix(namespace, endpoint.service) + check_name("endpoint id", endpoint.id)
        return key, json.dumps(value, separators=(",", ":")).encode()

    def decode(self, service: str, key: str, value: bytes) -> Endpoint:
        """The endpoint in a value of meshkit or Go; unknown fields are ignored."""
        update = read_object(value)
        operation = update.get("op")
        if operation == _DELETE:
            raise ValueError("a delete marker (Op 1)")
        if operation not in (None, _PUT):
            raise ValueError("unknown Op")
        address = update.get("addr")
        if not isinstance(address, str):
            raise ValueError("Addr is missing or no text")  # noqa: TRY004 -- bad data, no bad call
        parent, _, endpoint_id = key.rpartition("/")
        if parent.rpartition("/")[2] != service:
            raise ValueError(f"the key is no direct child of {service!r}")
        fields = update.get("metadata")
        if not isinstance(fields, dict):
            fields = {}
        return Endpoint(
            service=service,
            id=check_name("endpoint id", endpoint_id),
            address=check_address(address),
            weight=read_weight(fields.get("weight", DEFAULT_WEIGHT)),
            zone=_read_word(fields.get("zone")),
            version=_read_word(fields.get("version")),
            state=State.DRAINING if fields.get("state") == State.DRAINING else State.SERVING,
            keepalive=_read_seconds(fields.get("keepalive")),
            metadata=read_labels(fields.get("labels")),
        )


def _read_seconds(seconds: object) -> float:
    if isinstance(seconds, int | float) and 0 < seconds <= _MAX_SECONDS:
        return float(seconds)
    return 0.0


def _read_word(word: object) -> str:
    return word if isinstance(word, str) else ""
