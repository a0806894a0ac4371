"""What can happen to a single etcd, to what it holds, and to the way there."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final

from meshkit.testing.proxy import TcpProxy
from tests.faults.backup import restore, save
from tests.faults.fleet import Fleet
from tests.faults.garbage import GARBAGE
from tests.faults.outages import Fault
from tests.faults.program import wait_until
from tests.faults.registry import Setup

__all__ = ["GUARDED", "LATE", "OF_DATA", "OF_ETCD", "OF_THE_WAY"]

_CONNECT: Final = 10.0  # seconds
_CHANGES: Final = 500
_LEFT: Final = 10  # of the changed keys


# ---- etcd itself


@contextmanager
def _frozen(fleet: Fleet) -> Iterator[None]:
    """For longer than any lease lives: all end at the moment at which it goes on."""
    (etcd,) = fleet.registry.members
    etcd.pause()
    fleet.run(max(fleet.size.seconds, fleet.size.ttl + 1))
    etcd.resume()
    yield


@contextmanager
def _restarted(fleet: Fleet) -> Iterator[None]:
    """Killed, and started again with its data."""
    (etcd,) = fleet.registry.members
    etcd.kill()
    fleet.run(fleet.size.seconds)
    etcd.restart()
    yield


@contextmanager
def _polite(fleet: Fleet) -> Iterator[None]:
    """Stopped and started, as in an upgrade: it says GOAWAY first."""
    (etcd,) = fleet.registry.members
    etcd.restart()
    yield


@contextmanager
def _wiped(fleet: Fleet) -> Iterator[None]:
    """Killed, and started without its data; the clients find it empty."""
    (etcd,) = fleet.registry.members
    etcd.kill()
    killed_at = time.monotonic()
    fleet.run(fleet.size.seconds)
    with fleet.paused(*fleet.servers):  # else they may have registered before a client looks
        etcd.restart(wipe=True)
        wait_until("the clients have listed it", partial(_reconnected, fleet, killed_at), _CONNECT)
    yield


def _reconnected(fleet: Fleet, since: float) -> bool:
    connected = (client.happenings("registry.connected") for client in fleet.clients)
    return all(events and events[-1].at > since for events in connected)


@contextmanager
def _restored(fleet: Fleet) -> Iterator[None]:
    """From a backup with leases that nobody renews any more, and an endpoint that has left."""
    (etcd,) = fleet.registry.members
    fleet.registry.announce("ghost")
    backup = fleet.folder / "backup"
    save(etcd, backup)
    fleet.registry.erase("ghost")
    _revoke_all(fleet)
    wait_until("all have registered again", fleet.is_registered, fleet.size.ttl)
    etcd.kill()
    fleet.run(fleet.size.seconds)
    restore(etcd, backup)
    etcd.restart()
    yield
    fleet.registry.erase("ghost")


OF_ETCD: Final = (
    Fault(name="etcd-stop", hurt=_frozen),
    Fault(name="etcd-restart", hurt=_restarted),
    Fault(name="etcd-goaway", hurt=_polite),
    Fault(name="etcd-wipe", hurt=_wiped),
    Fault(name="etcd-restored", hurt=_restored),
)


# ---- what it holds


@contextmanager
def _erased(fleet: Fleet) -> Iterator[None]:
    """Every server's key is deleted by hand."""
    for entry in fleet.registry.entries():
        fleet.registry.erase(entry.key)
    yield


@contextmanager
def _taken(fleet: Fleet) -> Iterator[None]:
    """Another owner writes over a server's key, and lives for a moment."""
    lease = int(fleet.registry.insist("lease/grant", TTL=2)["ID"])
    victim = fleet.registry.entries()[0].key
    fleet.registry.announce(victim, lease=lease)
    yield


@contextmanager
def _revoked(fleet: Fleet) -> Iterator[None]:
    """Every server's lease is revoked from outside."""
    _revoke_all(fleet)
    yield


def _revoke_all(fleet: Fleet) -> None:
    for lease in {entry.lease for entry in fleet.registry.entries() if entry.lease}:
        fleet.registry.insist("lease/revoke", ID=lease)


@contextmanager
def _littered(fleet: Fleet) -> Iterator[None]:
    """Garbage lies below the service's prefix: the clients tell of it, and go on."""
    for number, value in enumerate(GARBAGE):
        fleet.registry.put(f"garbage-{number}", value)
    yield
    for client in fleet.clients:
        wait_until("it tells of garbage", partial(client.happenings, "entry.skipped"), _CONNECT)
    for number in range(len(GARBAGE)):
        fleet.registry.erase(f"garbage-{number}")


OF_DATA: Final = (
    Fault(name="keys-deleted", hurt=_erased),
    Fault(name="key-overwritten", hurt=_taken),
    Fault(name="leases-revoked", hurt=_revoked),
    Fault(name="garbage", hurt=_littered),
)


# ---- the way there


@contextmanager
def _reset(fleet: Fleet) -> Iterator[None]:
    """All connections are reset, again and again."""
    for _ in range(10):
        fleet.registry.link(TcpProxy.reset)
        fleet.run(fleet.size.seconds / 10)
    yield


@contextmanager
def _half_closed(fleet: Fleet) -> Iterator[None]:
    """All connections end in one direction."""
    fleet.registry.link(TcpProxy.half_close)
    yield


@contextmanager
def _half_open(fleet: Fleet) -> Iterator[None]:
    """All connections are forgotten by what lies between, without a word; new ones work."""
    fleet.registry.link(TcpProxy.strand)
    yield


@contextmanager
def _slow(fleet: Fleet) -> Iterator[None]:
    fleet.registry.link(TcpProxy.delay, 0.3)
    fleet.run(fleet.size.seconds)
    yield
    fleet.registry.link(TcpProxy.heal)


@contextmanager
def _compacted(fleet: Fleet) -> Iterator[None]:
    """The history is forgotten while everybody is cut off."""
    fleet.registry.link(TcpProxy.cut)
    revision = 0
    for _ in range(10):
        revision = fleet.registry.announce("changed")
    fleet.registry.insist("kv/compaction", revision=revision, physical=True)
    fleet.run(fleet.size.seconds)
    fleet.registry.link(TcpProxy.heal)
    yield
    fleet.registry.erase("changed")


@contextmanager
def _changed(fleet: Fleet) -> Iterator[None]:
    """500 changes while everybody tries to come back."""
    fleet.registry.link(TcpProxy.cut)
    for number in range(_CHANGES):
        fleet.registry.announce(f"changed-{number % 50}")
        if number >= _CHANGES - 50 + _LEFT:
            fleet.registry.erase(f"changed-{number % 50}")
    fleet.registry.link(TcpProxy.heal)
    yield
    for number in range(_LEFT):
        fleet.registry.erase(f"changed-{number}")


_PROXIED: Final = Setup(proxied=True)

OF_THE_WAY: Final = (
    Fault(name="link-reset", hurt=_reset, setup=_PROXIED),
    Fault(name="link-half-closed", hurt=_half_closed, setup=_PROXIED),
    Fault(name="link-half-open", hurt=_half_open, setup=_PROXIED, news_within=3.0),
    Fault(name="link-slow", hurt=_slow, setup=_PROXIED),
    Fault(name="compacted", hurt=_compacted, setup=_PROXIED),
    Fault(name="500-changes", hurt=_changed, setup=_PROXIED),
)


# ---- the others


@contextmanager
def _started(fleet: Fleet) -> Iterator[None]:
    """It comes after the servers and the clients, whose calls wait."""
    (etcd,) = fleet.registry.members
    fleet.run(fleet.size.seconds)
    etcd.start()
    yield


@contextmanager
def _tokens_forgotten(fleet: Fleet) -> Iterator[None]:
    """Auth tokens expire, and those that have not are forgotten by a restart."""
    (etcd,) = fleet.registry.members
    fleet.run(max(fleet.size.seconds, 3 * fleet.registry.setup.token_ttl))
    etcd.restart()
    yield


LATE: Final = Fault(name="etcd-late", hurt=_started, setup=Setup(late=True))
GUARDED: Final = Fault(name="auth-tokens", hurt=_tokens_forgotten, setup=Setup(token_ttl=1))
