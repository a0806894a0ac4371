"""Announces this process's endpoints: registrations come and go while one lease lives."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NoReturn, final

import anyio

from meshkit.discovery import REGISTER_TIMEOUT, RegistrationState
from meshkit.endpoint import Endpoint, State, fresh_id
from meshkit.errors import ConfigError, MeshClosedError, RegistryUnavailable
from meshkit.events import (
    Emit,
    EndpointKeyDeleted,
    EndpointRegistered,
    EndpointTakenOver,
    EndpointWithdrawn,
    RegistrationPending,
)
from meshkit.registry.announcer import Announcer
from meshkit.registry.layouts import Layout
from meshkit.registry.lease import Lease
from meshkit.registry.outage import Outage, loop_time
from meshkit.registry.registration import Registration
from meshkit.registry.status import RegistrationStatus
from meshkit.registry.store import KeyValue, Store

__all__ = ["Registrar"]


@final
class Registrar:
    """Announces endpoints under the one lease of this process; `run` has to run as a task.

    Args:
        store: where the endpoints are announced.
        layouts: how they are written; all keys of an endpoint in one transaction. What somebody
            else wrote over ours is read in the first.
        namespace: under which they are written.
        ttl: of the lease, in seconds.
        outage: told of trouble and of its end.
        withdraw_timeout: how long `withdraw` waits for the confirmation, in seconds.
    """

    def __init__(
        self,
        store: Store,
        layouts: Sequence[Layout],
        *,
        namespace: str,
        ttl: float,
        outage: Outage,
        emit: Emit,
        rng: random.Random,
        clock: Callable[[], float] = loop_time,
        withdraw_timeout: float = 2.0,
    ) -> None:
        self._store = store
        self._layouts = tuple(layouts)
        self._namespace = namespace
        self._outage = outage
        self._emit = emit
        self._clock = clock
        self._withdraw_timeout = withdraw_timeout
        self._registrations: list[Registration] = []
        self._deleted: set[str] = set()  # keys that somebody else deleted, until they stand again
        self._taken: set[tuple[str, int]] = set()  # keys and leases of others that were told of
        self._closed = False
        self._announcer = Announcer(
            store, self, ttl=ttl, outage=outage, emit=emit, rng=rng, clock=clock
        )
        self._ledger = self._announcer.ledger

    @property
    def peer(self) -> tuple[str, int] | None:
        """Host and port of the registry; None if it serves this machine only."""
        return self._store.peer

    @property
    def lease(self) -> Lease | None:
        """The lease as last confirmed; None while there is none."""
        return self._announcer.lease

    @property
    def registrations(self) -> tuple[Registration, ...]:
        """All that is, or is to be, announced."""
        return tuple(self._registrations)

    async def run(self) -> NoReturn:
        """Keep announced what is registered, for ever; may be started again after an error."""
        await self._announcer.run()

    def state_of(self, registration: Registration) -> RegistrationState:
        """How a registration stands now."""
        if registration not in self._registrations:
            return RegistrationState.WITHDRAWN
        if self.lease is None or not self._ledger.has(registration.entries):
            lost = registration.announced and not registration.leaving
            return RegistrationState.LOST if lost else RegistrationState.PENDING
        if self._clock() >= self.lease.expires_at:
            return RegistrationState.UNCONFIRMED
        return RegistrationState.ANNOUNCED

    def status(self) -> tuple[RegistrationStatus, ...]:
        """How each announced endpoint stands now."""
        return tuple(
            RegistrationStatus(endpoint=endpoint, state=registration.state, outage=outage)
            for registration, outage in ((r, self._outage_of(r)) for r in self._registrations)
            for endpoint in registration.endpoints
        )

    def _outage_of(self, registration: Registration) -> float | None:
        since = registration.missing_since
        if registration.state is RegistrationState.UNCONFIRMED and self.lease is not None:
            since = self.lease.confirmed_at
        return None if since is None else self._clock() - since

    async def register(
        self,
        endpoints: Sequence[Endpoint],
        *,
        timeout: float = REGISTER_TIMEOUT,
        required: bool = True,
    ) -> Registration:
        """Announce `endpoints`; see `discovery.Registrar.register`.

        Raises:
            ConfigError: they cannot be written, or this process announced one of them already.
            RegistryAuthError: the registry refuses us.
            RegistryUnavailable: they do not stand within `timeout` seconds, and are `required` to.
            MeshClosedError: the registrar was closed.
        """
        registration = self._enlist(endpoints)
        try:
            with anyio.move_on_after(timeout):
                while registration.state is RegistrationState.PENDING and (
                    required or self._outage.since is None
                ):
                    await self._announcer.turn.changed()
            if required and registration.state is RegistrationState.PENDING:
                raise _late(registration, self._store.name, timeout, self._announcer.trouble)
        except BaseException:  # nobody will hold it, so nobody could withdraw it
            self._drop([registration])
            raise
        registration.waited_for = False
        if registration.refusal is not None:
            raise registration.refusal
        if registration.state is RegistrationState.PENDING:
            trouble = self._announcer.trouble
            self._emit(RegistrationPending(self._store.name, registration.services, trouble))
        return registration

    async def withdraw(self, registrations: Sequence[Registration]) -> bool:
        """Leave the registry with `registrations`; True if it confirmed within the bound."""
        keys = {key for registration in registrations for key in registration.entries}
        # Also for a caller who is being cancelled: whoever leaves without a word is dialled on.
        deadline = anyio.current_time() + self._withdraw_timeout
        with anyio.CancelScope(deadline=deadline, shield=True):
            await self._say_draining(registrations)
        left = self._drop(registrations)
        with anyio.CancelScope(deadline=deadline, shield=True):
            while not keys.isdisjoint(self._ledger.surplus()):
                await self._announcer.turn.changed()
        confirmed = keys.isdisjoint(self._ledger.surplus())
        for endpoint in (e for registration in left for e in registration.endpoints):
            self._emit(EndpointWithdrawn(endpoint, self._store.name, confirmed))
        return confirmed

    async def _say_draining(self, registrations: Sequence[Registration]) -> None:
        """Tell the watchers that this is meant: a lease that ends by itself looks the same.

        Layouts that have no word for it write nothing here.
        """
        leaving = [r for r in registrations if self._ledger.has(r.entries)]
        for registration in leaving:
            registration.leaving = True
            registration.say(State.DRAINING)
            self._ledger.leave(registration.entries)
        self._announcer.turn.set(None)
        while not all(self._ledger.has(r.entries) for r in leaving):
            await self._announcer.turn.changed()

    async def close(self) -> bool:
        """Withdraw everything, bounded; nothing can be registered afterwards."""
        self._closed = True
        return await self.withdraw(self.registrations)

    # -- as the owner of the announced entries

    def written(self, entries: Mapping[str, bytes], lease: Lease) -> None:
        """Tell that endpoints stand, for the first time or again."""
        name, now = self._store.name, self._clock()
        for registration in (r for r in self.registrations if not r.leaving):
            written = {key: e for key, e in registration.by_key.items() if key in entries}
            if not written:
                continue
            for key in self._deleted & written.keys():
                self._emit(EndpointKeyDeleted(written[key], name))
            again, since = registration.announced, registration.missing_since
            outage = 0.0 if since is None else now - since
            for endpoint in (e for e in registration.endpoints if e in written.values()):
                self._emit(EndpointRegistered(endpoint, name, lease.id, again, outage))
            registration.announced, registration.missing_since = True, None
        self._deleted -= entries.keys()

    def lost(self, keys: Iterable[str], since: float, *, deleted: bool) -> None:
        """Note since when registrations do not stand; they are written again."""
        gone = set(keys)
        self._deleted = self._deleted | gone if deleted else set()
        for registration in self._registrations:
            if registration.missing_since is None and not gone.isdisjoint(registration.entries):
                registration.missing_since = since

    def taken_over(self, entry: KeyValue, since: float) -> None:
        """Leave the key to whoever renews a lease for it, and announce under a new one.

        Two who write over each other would do so for ever, and clients would go from one to the
        other. A value without a lease has nobody who renews it: it is written over. So is one whose
        key has to be the same, since that is the address: it was ours before.
        """
        for registration in self._registrations:
            if (endpoint := registration.by_key.get(entry.key)) is None:
                continue
            if (entry.key, entry.lease) not in self._taken:
                self._taken.add((entry.key, entry.lease))
                by = self._address(endpoint.service, entry)
                self._emit(EndpointTakenOver(endpoint, self._store.name, by, entry.lease))
            if registration.missing_since is None:
                registration.missing_since = since
            ours = {0, self.lease.id if self.lease else 0}
            if entry.lease not in ours and not registration.leaving:
                self._ledger.unwant(registration.entries)
                new = fresh_id()
                registration.change([replace(e, id=new) for e in registration.endpoints])
                self._ledger.want(registration.entries)

    def refused(self, error: Exception) -> bool:
        """Take back what was never announced, and whose `register` can still say why."""
        first = [r for r in self._registrations if r.waited_for and not r.announced]
        for registration in first:
            registration.refusal = error
        return bool(self._drop(first))

    # -- within: no await in here

    def _enlist(self, endpoints: Sequence[Endpoint]) -> Registration:
        if self._closed:
            raise MeshClosedError("the registry is closed")
        if not endpoints:
            raise ConfigError("there is no endpoint to register")
        registration = Registration(self, endpoints, self._encode, self._clock())
        entries = registration.entries
        taken = entries.keys() & self._ledger.wanted.keys()
        if taken or not registration.is_unique:
            raise ConfigError(f"announced twice by this process: {sorted(taken or entries)}")
        self._registrations.append(registration)
        self._ledger.want(entries)
        self._announcer.turn.set(None)
        return registration

    def _encode(self, endpoint: Endpoint) -> Iterable[tuple[str, bytes]]:
        return [layout.encode(self._namespace, endpoint) for layout in self._layouts]

    def _address(self, service: str, entry: KeyValue) -> str:
        try:
            return self._layouts[0].decode(service, entry.key, entry.value or b"").address
        except ValueError:
            return ""

    def _drop(self, registrations: Sequence[Registration]) -> list[Registration]:
        """Stop wanting `registrations`; returns those that were wanted until now."""
        dropped = [r for r in registrations if r in self._registrations]
        for registration in dropped:
            self._registrations.remove(registration)
            self._ledger.unwant(registration.entries)
        self._announcer.turn.set(None)
        return dropped


def _late(
    registration: Registration, registry: str, timeout: float, trouble: str
) -> RegistryUnavailable:
    return RegistryUnavailable(
        f"{', '.join(registration.services)} could not be registered at {registry} within "
        f"{timeout:g} s: {trouble}. Next: check that the registry runs and can be reached from "
        "here, or serve without it until it comes: require_registration=False"
    )
