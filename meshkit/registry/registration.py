"""What one `register` announced, and how it stands."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol, final

from meshkit.discovery import RegistrationState
from meshkit.endpoint import Endpoint, State

__all__ = ["Registration"]


class _Registrar(Protocol):
    def state_of(self, registration: Registration) -> RegistrationState: ...

    async def withdraw(self, registrations: Sequence[Registration]) -> bool: ...


@final
class Registration:
    """The live fact that endpoints are announced; made by `Registrar.register`.

    Attributes:
        endpoints: what is announced.
        entries: the same as it is written, in each layout.
        by_key: the endpoints by the keys under which they are announced.
        is_unique: whether no two of them have the same key.
        announced: whether it ever stood.
        leaving: whether its withdrawal has begun.
        waited_for: whether somebody is there to be told of a refusal.
        refusal: why the registry does not take it.
        missing_since: from when on it has not stood for certain; None while it does. Seconds of the
            registrar's clock.
    """

    __slots__ = (
        "_encode",
        "_registrar",
        "announced",
        "by_key",
        "endpoints",
        "entries",
        "is_unique",
        "leaving",
        "missing_since",
        "refusal",
        "waited_for",
    )

    def __init__(
        self,
        registrar: _Registrar,
        endpoints: Sequence[Endpoint],
        encode: Callable[[Endpoint], Iterable[tuple[str, bytes]]],
        now: float,
    ) -> None:
        self._registrar = registrar
        self._encode = encode
        self.announced = False
        self.leaving = False
        self.waited_for = True
        self.refusal: Exception | None = None
        self.missing_since: float | None = now
        self.change(endpoints)

    def change(self, endpoints: Sequence[Endpoint]) -> None:
        """Announce `endpoints` instead."""
        self.endpoints = tuple(endpoints)
        written = [(endpoint, entry) for endpoint in endpoints for entry in self._encode(endpoint)]
        self.entries: Mapping[str, bytes] = dict(entry for _, entry in written)
        self.by_key: Mapping[str, Endpoint] = {key: endpoint for endpoint, (key, _) in written}
        self.is_unique = len(self.entries) == len(written)

    def say(self, state: State) -> None:
        """Write the same endpoints as being in `state`."""
        said = (replace(endpoint, state=state) for endpoint in self.endpoints)
        self.entries = dict(entry for endpoint in said for entry in self._encode(endpoint))

    @property
    def services(self) -> tuple[str, ...]:
        """The names under which it announces, each once."""
        return tuple(dict.fromkeys(endpoint.service for endpoint in self.endpoints))

    @property
    def state(self) -> RegistrationState:
        """How the announcement stands now."""
        return self._registrar.state_of(self)

    async def withdraw(self) -> bool:
        """Leave the registry; True if it confirmed. Bounded, and never raises for a dead one."""
        return await self._registrar.withdraw([self])

    def __repr__(self) -> str:
        addresses = ", ".join(f"{e.service}@{e.address}" for e in self.endpoints)
        return f"<Registration {addresses}: {self.state}>"
