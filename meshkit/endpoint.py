"""Endpoints as data: one running copy of a service, and all copies at one revision."""

from __future__ import annotations

import enum
import secrets
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, final

from meshkit.errors import ConfigError
from meshkit.sorted_map import SortedMap

__all__ = ["Delta", "Endpoint", "EndpointSet", "State", "fresh_id"]

_NO_METADATA: Final[Mapping[str, str]] = MappingProxyType({})
DEFAULT_WEIGHT: Final = 100


def fresh_id() -> str:
    """An id that no other endpoint has."""
    return secrets.token_hex(6)


class State(enum.StrEnum):
    """What an endpoint says of itself in the registry."""

    SERVING = "serving"
    DRAINING = "draining"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One running copy of a service, as written in the registry.

    Attributes:
        service: the logical name, `hello_service`.
        id: unique within the service; the same through the life of one server.
        address: `host:port` (`[v6]:port`) that clients dial.
        weight: 0 takes no new calls, 100 is neutral; for pickers that look at it.
        zone: where it runs, or "".
        version: of the program, or "".
        state: `SERVING`, or `DRAINING` when it takes no new calls.
        keepalive: seconds between the pings that its server lets clients send; 0.0 if unknown,
            and then nobody pings it.
        health: whether clients may ask its server for its health; a server without it that fails
            to say so would count as failing for ever.
        metadata: free labels.
    """

    service: str
    id: str
    address: str
    weight: int = DEFAULT_WEIGHT
    zone: str = ""
    version: str = ""
    state: State = State.SERVING
    keepalive: float = 0.0
    health: bool = True
    metadata: Mapping[str, str] = field(default_factory=lambda: _NO_METADATA, hash=False)

    def __post_init__(self) -> None:
        if self.weight < 0:
            raise ConfigError(f"weight must be 0 or more, got {self.weight}")
        if not isinstance(self.metadata, MappingProxyType):
            object.__setattr__(self, "metadata", MappingProxyType(dict(self.metadata)))


@final
@dataclass(frozen=True, slots=True)
class Delta:
    """What differs between two sets of one service."""

    added: tuple[Endpoint, ...] = ()
    changed: tuple[Endpoint, ...] = ()
    removed: tuple[Endpoint, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)


@final
@dataclass(frozen=True, slots=True, repr=False)
class EndpointSet:
    """All endpoints of one service at one revision; one endpoint per address.

    Iterates over its endpoints in order of id. Build it with `EndpointSet.of`.
    """

    service: str
    revision: int = 0
    by_id: SortedMap[Endpoint] = field(default_factory=SortedMap, hash=False)

    @classmethod
    def of(cls, service: str, endpoints: Iterable[Endpoint], *, revision: int = 0) -> EndpointSet:
        """The set of `endpoints`; of several with one address, the last given one stands."""
        by_address = {endpoint.address: endpoint for endpoint in endpoints}
        return cls(service, revision, SortedMap({e.id: e for e in by_address.values()}))

    def with_changes(
        self, put: Mapping[str, Endpoint], drop: Collection[str], *, revision: int
    ) -> EndpointSet:
        """The set at a later revision, made of what changed: `put` by id, and the ids in `drop`.

        It is for the caller to see that there is one endpoint per address.
        """
        return EndpointSet(self.service, revision, self.by_id.with_changes(put, drop))

    def __iter__(self) -> Iterator[Endpoint]:
        return iter(self.by_id.values())

    def __len__(self) -> int:
        return len(self.by_id)

    def __repr__(self) -> str:
        addresses = ", ".join(endpoint.address for endpoint in self)
        return f"<EndpointSet {self.service!r} r{self.revision}: {addresses or 'empty'}>"

    def since(self, older: EndpointSet | None) -> Delta:
        """What has to be done to `older` to get this set; quick where one was made of the other."""
        after, before = self.by_id.differences(older.by_id if older is not None else SortedMap())
        return Delta(
            added=tuple(e for i, e in after.items() if i not in before),
            # Most are the same object; comparing fields costs a hundred times as much.
            changed=tuple(
                e for i, e in after.items() if before.get(i, e) is not e and before[i] != e
            ),
            removed=tuple(e for i, e in before.items() if i not in after),
        )
