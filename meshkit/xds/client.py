"""One client: who it is, and what there is for it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final, Self, final

from google.protobuf.json_format import MessageToDict

from meshkit.errors import ConfigError
from meshkit.events import Emit, XdsNamesRefused
from meshkit.xds.catalogue import Catalogue, Followed, Wake
from meshkit.xds.envoy import METADATA_KEY, EnvoyScope
from meshkit.xds.exchange import WILDCARD, Absent, Found
from meshkit.xds.listeners import listener_of_port
from meshkit.xds.names import BY_AUTHORITY, Family, is_service_name, service_of
from meshkit.xds.resources import CLUSTER, LISTENER, ROUTE, Resource
from meshkit.xds.subscription import Subscriptions
from meshkit.xds.translation import Audience

__all__ = ["Client", "ClientView"]

_MOST_NAMES: Final = 1000  # services that one client may ask for by name


@final
@dataclass(frozen=True, slots=True)
class Client:
    """Who opened a stream.

    Attributes:
        node: the `core.v3.Node` of its first request.
        peer: where it calls from.
        audience: whose answers it gets.
        scope: what it is for, if it is an Envoy.
        trouble: why that cannot be read; empty: it can.
    """

    node: Any
    peer: str
    audience: Audience
    scope: EnvoyScope
    trouble: str = ""

    @classmethod
    def of(cls, node: Any, peer: str) -> Self:
        """Read the first request's node."""
        audience = Audience(Family.of(node.user_agent_name), node.locality.zone)
        scope, trouble = EnvoyScope(), ""
        if METADATA_KEY in node.metadata.fields:
            try:
                scope = EnvoyScope.from_json(MessageToDict(node.metadata)[METADATA_KEY])
            except ConfigError as error:
                trouble = str(error)
        return cls(node, peer, audience, scope, trouble)

    @property
    def name(self) -> str:
        """Its kind, as it calls itself."""
        version = self.node.user_agent_version
        return f"{self.node.user_agent_name or 'unknown'} {version}".strip()


@final
class ClientView:
    """What there is for one client; implements `subscription.View`.

    Args:
        client: who asks.
        catalogue: of all services.
        wake: called when something may have changed for it.
        emit: told of names that it cannot have.

    Attributes:
        is_for_all: whether it follows all services there are, and `follow` is due as they change.
    """

    def __init__(self, client: Client, catalogue: Catalogue, wake: Wake, emit: Emit) -> None:
        self._client = client
        self._catalogue = catalogue
        self._wake = wake
        self._emit = emit
        self._services: dict[str, Followed] = {}
        self._ports = {port.address: port for port in client.scope.ports}
        self._listeners: dict[str, Resource] = {}
        self._refused: frozenset[str] = frozenset()
        self.is_for_all = False
        catalogue.follow_names(wake)

    def close(self) -> None:
        """Follow nothing any more."""
        self._catalogue.leave_names(self._wake)
        for service in self._services.values():
            self._catalogue.leave(service, self._wake)
        self._services.clear()

    def follow(self, subscriptions: Subscriptions) -> None:
        """Follow the services of all that was asked for, and no others."""
        names = subscriptions.names()
        wanted = self._admitted({service_of(name) for name in names - {WILDCARD, BY_AUTHORITY}})
        self.is_for_all = BY_AUTHORITY in names or subscriptions.wants_all(CLUSTER)
        if self.is_for_all:
            wanted |= self._all() or set()
        for name in self._services.keys() - wanted:
            self._catalogue.leave(self._services.pop(name), self._wake)
        for name in wanted - self._services.keys():
            self._services[name] = self._catalogue.follow(name, self._wake)

    def _admitted(self, names: set[str]) -> set[str]:
        names -= self._ports.keys()
        good = {name for name in names if is_service_name(name)}
        extra = sorted(good - (self._all() or set()))[_MOST_NAMES:]
        refused = frozenset((names - good).union(extra))
        if refused - self._refused:
            reason = f"more than {_MOST_NAMES}" if extra else "no names of services"
            names_shown = tuple(sorted(refused - self._refused)[:10])
            node = self._client.node.id
            self._emit(XdsNamesRefused(node, self._client.name, names_shown, reason))
        self._refused = refused
        return good - refused

    def _all(self) -> set[str] | None:
        """All services that this client is for; None: not known yet."""
        if self._client.audience.family is Family.GRPC:
            return set()
        if self._client.scope.services is not None:
            return set(self._client.scope.services)
        names = self._catalogue.names
        return None if names is None else {name for name in names if is_service_name(name)}

    def listed(self, type_url: str, *, fresh: bool) -> Collection[str] | None:
        """The names of all; None: they are not known yet."""
        if type_url == LISTENER:
            return self._ports.keys()
        services = self._all()
        if services is None:
            return None
        found: set[str] = set()
        for name in services:
            service = self._services.get(name)
            known = service.known(fresh=fresh) if service else None
            found.update([name] if known is None else known.clusters)
        return found

    def find(self, type_url: str, name: str, *, fresh: bool) -> Found:
        """One resource."""
        if type_url == LISTENER and name in self._ports:
            return self._listener(name)
        if type_url == ROUTE and name == BY_AUTHORITY:
            return self._by_authority(fresh=fresh)
        service = self._services.get(service_of(name))
        if service is None:
            return Absent.NONE
        known = service.known(fresh=fresh)
        if known is None:
            return Absent.UNKNOWN
        return known.find(type_url, name, self._client.audience) or Absent.NONE

    def _listener(self, name: str) -> Resource:
        if name not in self._listeners:
            self._listeners[name] = Resource.of(name, listener_of_port(self._ports[name]))
        return self._listeners[name]

    def _by_authority(self, *, fresh: bool) -> Found:
        services = self._all()
        if services is None:
            return Absent.UNKNOWN
        known = []
        for name in sorted(services):
            service = self._services.get(name)
            translation = service.known(fresh=fresh) if service else None
            if translation is None:
                return Absent.UNKNOWN
            known.append(translation)
        return self._catalogue.by_authority(known, self._client.audience)
