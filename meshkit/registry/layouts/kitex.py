"""The layouts of Kitex and, under another prefix, of Hertz.

```text
kitex/registry-etcd/echo/10.0.0.5:8888
    ->  {"network":"tcp","address":"10.0.0.5:8888","weight":10,"tags":null}
```

Weights are a tenth of ours, and at least 1: Kitex takes 0 for "not said" and makes it 10. Its
reader reuses one object for a whole list, so every field is written, and `tags` is null where there
are none.

Kitex's servers answer a watch of their health with UNKNOWN, which gRPC takes for not healthy; only
UNIMPLEMENTED says that there is nothing to watch. So nobody is asked who does not say `keepalive`,
as servers of meshkit do.
Source: kitex-contrib `registry-etcd/{common,etcd_registry,etcd_resolver}.go`.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Final, final

from meshkit.endpoint import DEFAULT_WEIGHT, Endpoint
from meshkit.errors import ConfigError
from meshkit.registry.layouts.labels import label, labelled
from meshkit.registry.layouts.layout import Folder, check_address
from meshkit.registry.layouts.reading import read_labels, read_object, read_weight

__all__ = ["HertzLayout", "KitexLayout"]

_SCALE: Final = 10


class KitexLayout(Folder):
    """`kitex/registry-etcd/<service>/<host:port>` and the JSON of Kitex's instance."""

    name = "kitex"
    default_prefix = "kitex/registry-etcd"
    slash = ""

    def encode(self, namespace: str, endpoint: Endpoint) -> tuple[str, bytes]:
        """Key and value."""
        if endpoint.weight == 0:
            raise ConfigError(
                f"layout {self.name} has no weight 0: its readers take it for their default. "
                "Do not register an endpoint that shall take no calls"
            )
        address = check_address(endpoint.address)
        value = {
            "network": "tcp",
            "address": address,
            "weight": max(round(endpoint.weight / _SCALE), 1),
            "tags": label(endpoint, but=["weight"]) or None,
        }
        key = self.prefix(namespace, endpoint.service) + address
        return key, json.dumps(value, separators=(",", ":")).encode()

    def decode(self, service: str, key: str, value: bytes) -> Endpoint:
        """The instance at the address in `value`; `key` is not looked at."""
        del key
        instance = read_object(value)
        if instance.get("network", "tcp") != "tcp":
            raise ValueError("network is not tcp")
        address = instance.get("address")
        if not isinstance(address, str):
            raise ValueError("address is missing or no text")  # noqa: TRY004 -- bad data
        weight = instance.get("weight", 0)
        if isinstance(weight, int) and weight <= 0:
            weight = DEFAULT_WEIGHT / _SCALE
        endpoint = Endpoint(
            service=service,
            id=check_address(address),
            address=address,
            weight=read_weight(read_weight(weight) * _SCALE),
        )
        labels = read_labels(instance.get("tags"))
        labels.pop("weight", None)
        found = labelled(endpoint, labels)
        return replace(found, health=found.keepalive > 0)


@final
class HertzLayout(KitexLayout):
    """The same for HTTP servers of Hertz."""

    name = "hertz"
    default_prefix = "hertz/registry-etcd"
