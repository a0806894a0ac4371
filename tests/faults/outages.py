"""What is done to etcd, and what must come of it: nothing that a caller could see."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from tests.faults.fleet import Fleet, Size
from tests.faults.outcome import Outcome
from tests.faults.program import wait_until

__all__ = ["etcd_restart", "etcd_stop", "etcd_wipe"]

_CONNECT: Final = 10.0  # seconds


def etcd_stop(size: Size) -> Outcome:
    """etcd is frozen for longer than any lease lives."""

    def freeze(fleet: Fleet) -> None:
        fleet.etcd.pause()
        fleet.run(size.seconds)
        fleet.etcd.resume()

    return _outage("etcd-stop", size, freeze)


def etcd_restart(size: Size) -> Outcome:
    """etcd is killed, and started again with its data."""

    def restart(fleet: Fleet) -> None:
        fleet.etcd.kill()
        fleet.run(size.seconds)
        fleet.etcd.restart()

    return _outage("etcd-restart", size, restart)


def etcd_wipe(size: Size) -> Outcome:
    """etcd is killed, and started again without its data; the clients find it empty."""

    def wipe(fleet: Fleet) -> None:
        fleet.etcd.kill()
        fleet.run(size.seconds)
        with fleet.paused(*fleet.servers):  # else they may have registered before a client looks
            fleet.etcd.restart(wipe=True)
            wait_until("the clients have listed it", lambda: _reconnected(fleet), _CONNECT)

    return _outage("etcd-wipe", size, wipe)


def _reconnected(fleet: Fleet) -> bool:
    return all(client.happenings("registry.connected") for client in fleet.clients)


def _outage(name: str, size: Size, hurt: Callable[[Fleet], None]) -> Outcome:
    outcome = Outcome(name)
    with Fleet(size) as fleet:
        fleet.run(1)
        hurt(fleet)
        returned_at = time.monotonic()
        incomplete_until = _watch_registry(fleet, returned_at)
        outcome.finish(fleet)
        changes = [c for client in fleet.clients for c in client.happenings("endpoints.changed")]
        settled = fleet.is_settled()
    outcome.require_no_failure()
    empty = [change for change in changes if change.fields["total"] == 0]
    outcome.require(not empty, f"a client saw an empty set {len(empty)} times")
    outcome.require(settled, "a client does not know all servers")
    back = incomplete_until - returned_at
    outcome.require(back <= size.ttl, f"registrations were back only after {back:.2f} s")
    outcome.note("registrations complete after", back)
    late = [change for change in changes if change.at > returned_at]
    outcome.note("sets stand after", max((c.at for c in late), default=returned_at) - returned_at)
    fewest = min((change.fields["total"] for change in late), default=size.servers)
    outcome.figures["smallest set"] = f"{fewest}"
    return outcome


def _watch_registry(fleet: Fleet, since: float) -> float:
    """When the registry was last seen without one of the servers.

    Looks for as long as leases can live that nobody renews: etcd starts them anew when it starts.
    """
    incomplete_until = since
    while time.monotonic() < since + fleet.size.ttl + 2:
        if fleet.registered() != fleet.names():
            incomplete_until = time.monotonic()
        fleet.run(0.05)
    return incomplete_until
