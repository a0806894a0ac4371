"""The two ports of the SDK: `Resolver` to read endpoints, `Registrar` to write them.

Clients and servers know only these; registries provide them.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final, Protocol, final

from meshkit.endpoint import Endpoint, EndpointSet
from meshkit.latest import Latest
from meshkit.service_config import ServiceConfig

__all__ = [
    "Directory",
    "Registrar",
    "Registration",
    "RegistrationState",
    "Resolution",
    "Resolver",
    "Watch",
]

REGISTER_TIMEOUT: Final = 5.0  # seconds


@final
@dataclass(frozen=True, slots=True)
class Resolution:
    """What is known of a service now.

    Attributes:
        endpoints: the newest set; None while nothing is known.
        trouble: why the registry cannot be followed at the moment; None while it can.
            The last set stays valid through any trouble.
        refused: whether that trouble is a refusal of our credentials or rights: somebody must act.
        from_cache: whether the set is what an earlier process knew, since the registry has not
            answered this one yet.
        config: the service config that is published for it; None if none is known.
    """

    endpoints: EndpointSet | None = None
    trouble: str | None = None
    refused: bool = False
    from_cache: bool = False
    config: ServiceConfig | None = None


class Watch(Protocol):
    """One service's endpoints, kept current as long as somebody holds the watch."""

    @property
    def service(self) -> str:
        """The service's name."""
        ...

    @property
    def registry(self) -> str:
        """Where the endpoints come from, for people: a URL without secrets."""
        ...

    @property
    def latest(self) -> Latest[Resolution]:
        """The newest resolution."""
        ...

    def age(self) -> float | None:
        """Seconds since the registry last confirmed the set, to any process; None if never."""
        ...


class Resolver(Protocol):
    """Finds the endpoints of services."""

    def watch(self, service: str) -> AbstractContextManager[Watch]:
        """Follow `service` for the length of the block; all holders share one watch."""
        ...


class Directory(Resolver, Protocol):
    """Finds all services there are."""

    def watch_services(self) -> Latest[frozenset[str] | None]:
        """The names of all services, kept current; None while they are not known."""
        ...


class RegistrationState(enum.StrEnum):
    """How our announcement stands."""

    PENDING = "pending"  # not announced yet
    ANNOUNCED = "announced"  # in the registry, lease confirmed
    UNCONFIRMED = "unconfirmed"  # no answer within the lease's time: it may live or not
    LOST = "lost"  # it was announced, and the registry has it no more: announcing again
    WITHDRAWN = "withdrawn"


class Registration(Protocol):
    """The live fact that endpoints are announced."""

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """What is announced; with other ids after somebody else wrote over one of its keys."""
        ...

    @property
    def state(self) -> RegistrationState:
        """How the announcement stands now."""
        ...

    async def withdraw(self) -> bool:
        """Leave the registry; True if it confirmed, False if it did not in time. Bounded.

        Never raises for a registry that is down: the lease's end removes the keys then.
        Twice is fine.
        """
        ...


class Registrar(Protocol):
    """Announces endpoints and keeps them announced."""

    @property
    def peer(self) -> tuple[str, int] | None:
        """Host and port of the registry; None if it serves this machine only."""
        ...

    async def register(
        self,
        endpoints: Sequence[Endpoint],
        *,
        timeout: float = REGISTER_TIMEOUT,
        required: bool = True,
    ) -> Registration:
        """Announce endpoints that are bound and serving; they stay until `withdraw`.

        Args:
            endpoints: what to announce.
            timeout: seconds to wait until they stand in the registry.
            required: whether they have to stand. If not, the registration is returned `PENDING`
                when the time is over or the registry is found in trouble, whichever is first, and
                announced as soon as possible.

        Raises:
            ConfigError: the registry cannot take these endpoints.
            RegistryAuthError: it refuses us.
            RegistryUnavailable: they do not stand in time, and are required to.
        """
        ...
