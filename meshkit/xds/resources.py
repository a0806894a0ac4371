"""Resources as they are sent: packed once, named, and with a version that is their content's hash.

So replicas that see the same registry give the same answers, and what eight hundred streams get
is serialized once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Self, final

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf.any_pb2 import Any as AnyMessage

__all__ = [
    "CLUSTER",
    "ENDPOINT",
    "LISTENER",
    "PUSH_ORDER",
    "ROUTE",
    "Resource",
    "pack",
    "version_of",
]

_PREFIX: Final = "type.googleapis.com/"


def _url(message: Any) -> str:
    return f"{_PREFIX}{message.DESCRIPTOR.full_name}"


LISTENER: Final = _url(Listener)
ROUTE: Final = _url(RouteConfiguration)
CLUSTER: Final = _url(Cluster)
ENDPOINT: Final = _url(ClusterLoadAssignment)

PUSH_ORDER: Final = (CLUSTER, ENDPOINT, LISTENER, ROUTE)
"""Make before break: nothing is named before it was sent."""

_RESOURCES: Final = 2  # the field of both kinds of responses that has the resources
_SIZE: Final = 8  # bytes of a version, which is compared with few others


@final
@dataclass(frozen=True, eq=False)
class Resource:
    """One resource; equal content has an equal version, everywhere.

    Attributes:
        name: as clients ask for it.
        version: hash of the content.
        packed: the `google.protobuf.Any`, serialized.
    """

    name: str
    version: str
    packed: bytes

    @classmethod
    def of(cls, name: str, message: Any) -> Self:
        """Pack `message`."""
        content = message.SerializeToString(deterministic=True)
        packed = AnyMessage(type_url=_url(message), value=content).SerializeToString()
        return cls(name, hashlib.blake2b(packed, digest_size=_SIZE).hexdigest(), packed)

    @cached_property
    def whole(self) -> bytes:
        """As a field of a `DiscoveryResponse`."""
        return _field(self.packed)

    @cached_property
    def delta(self) -> bytes:
        """As a field of a `DeltaDiscoveryResponse`."""
        found = discovery_pb2.Resource(name=self.name, version=self.version)
        found.resource.ParseFromString(self.packed)
        return _field(found.SerializeToString())


def _field(value: bytes) -> bytes:
    """`value` as the field of resources: messages may be put together from serialized parts."""
    size, length = len(value), bytearray()
    while size > 0x7F:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes((_RESOURCES << 3 | 2, *length, size)) + value


def pack(message: Any) -> AnyMessage:
    """`message` in an `Any`, inside of another one."""
    packed = AnyMessage()
    packed.Pack(message, deterministic=True)
    return packed


def version_of(resources: Iterable[Resource]) -> str:
    """One version for all of `resources`, in whatever order; of a single one, its own."""
    versions = sorted((each.name, each.version) for each in resources)
    if len(versions) == 1:
        return versions[0][1]
    digest = hashlib.blake2b(digest_size=_SIZE)
    for name, version in versions:
        digest.update(f"{name}\0{version}\n".encode())
    return digest.hexdigest()
