"""Fixed lists: the same interface as a `Registry`, without a store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import final

from meshkit.discovery import REGISTER_TIMEOUT, RegistrationState, Resolution, Watch
from meshkit.endpoint import Endpoint, EndpointSet
from meshkit.errors import ConfigError
from meshkit.latest import Latest
from meshkit.registry.configs import Configs
from meshkit.registry.layouts import DEFAULT_NAMESPACE
from meshkit.registry.status import RegistryStatus, WatchStatus

__all__ = ["StaticRegistration", "StaticRegistry", "StaticWatch"]


@final
class StaticWatch:
    """A list that never changes; implements `discovery.Watch`."""

    def __init__(self, registry: str, endpoints: EndpointSet) -> None:
        self.registry = registry
        self.service = endpoints.service
        self.latest = Latest(Resolution(endpoints))

    def age(self) -> float:
        """Always 0.0: the list is never out of date."""
        return 0.0


@final
class StaticRegistration:
    """An endpoint that stands in the list, whether its server runs or not."""

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self.endpoints = tuple(endpoints)
        self.state = RegistrationState.ANNOUNCED

    async def withdraw(self) -> bool:
        """Note that the server left; the list keeps it."""
        self.state = RegistrationState.WITHDRAWN
        return True


@final
class StaticRegistry:
    """Services with fixed addresses; implements `Resolver` and `Registrar`.

    Args:
        services: the addresses of each service.
        name: where the lists come from, for people.
    """

    peer = None

    def __init__(
        self,
        services: Mapping[str, Sequence[str]],
        *,
        name: str = "static:",
        namespace: str = DEFAULT_NAMESPACE,
    ) -> None:
        self.name = name
        self.namespace = namespace
        self._sets = {
            service: EndpointSet.of(
                service, (Endpoint(service=service, id=a, address=a) for a in addresses)
            )
            for service, addresses in services.items()
        }

    @property
    def configs(self) -> Configs:
        """Nothing: raises `ConfigError`."""
        raise ConfigError(
            f"{self.name} has no place for service configs; "
            "give them in code: mesh.channel(service_config=...)"
        )

    @contextmanager
    def watch(self, service: str) -> Iterator[Watch]:
        """The list of `service`; an empty one if there is none."""
        yield StaticWatch(self.name, self._sets.get(service, EndpointSet(service)))

    async def register(
        self,
        endpoints: Sequence[Endpoint],
        *,
        timeout: float = REGISTER_TIMEOUT,
        required: bool = True,
    ) -> StaticRegistration:
        """Accept endpoints that stand in the lists; there is nothing to wait for.

        Raises:
            ConfigError: one does not, and would never be called.
        """
        del timeout, required
        for endpoint in endpoints:
            listed = self._sets.get(endpoint.service, EndpointSet(endpoint.service)).by_id
            if endpoint.address not in listed:
                raise ConfigError(
                    f"{endpoint.address} is not in the list of {endpoint.service!r} "
                    f"({', '.join(listed) or 'empty'}) in {self.name}"
                )
        return StaticRegistration(endpoints)

    async def endpoints(self, service: str) -> EndpointSet:
        """The list of `service`; an empty one if there is none."""
        return self._sets.get(service, EndpointSet(service))

    async def services(self) -> tuple[str, ...]:
        """The names of all services, sorted."""
        return tuple(sorted(self._sets))

    def watch_services(self) -> Latest[frozenset[str] | None]:
        """The names of all services, which never change."""
        return Latest(frozenset(self._sets))

    def status(self) -> RegistryStatus:
        """All lists, always connected."""
        watches = {
            service: WatchStatus(total=len(endpoints), unconfirmed=0, age=0.0)
            for service, endpoints in self._sets.items()
        }
        return RegistryStatus(
            registry=self.name, namespace=self.namespace, watches=MappingProxyType(watches)
        )

    async def aclose(self) -> None:
        """Nothing to close."""
