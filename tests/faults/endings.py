"""SIGTERM at bad moments: a server ends all the same, in time and with status 0."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Final

import grpc

from meshkit._proto.echo_pb2 import EchoRequest
from meshkit._proto.echo_pb2_grpc import EchoStub
from tests.faults.fleet import Fleet, Size
from tests.faults.outcome import Outcome
from tests.faults.registry import Setup

__all__ = ["ALONE", "ENDINGS", "ending"]

ALONE: Final = Size(servers=1, clients=0, grace=15)  # the default grace of servers


@dataclass(frozen=True, kw_only=True)
class _Ending:
    """What stands in the way of an end that may take `within` seconds."""

    obstacle: Callable[[Fleet], AbstractContextManager[None]]
    within: float
    setup: Setup = field(default_factory=Setup)


def ending(name: str, size: Size) -> Outcome:
    """The only server of a registry is asked to end."""
    outcome, case = Outcome(name), ENDINGS[name]
    with Fleet(size, case.setup) as fleet:
        (server,) = fleet.servers
        fleet.run(0.5)  # it is "ready" a moment before it takes signals
        with case.obstacle(fleet):
            asked_at = server.send(signal.SIGTERM)
            status = server.wait()
            took = time.monotonic() - asked_at
        outcome.finish(fleet)
    outcome.require(status == 0, f"it exited with {status}")
    outcome.require(took <= case.within, f"it ended only after {took:.2f} s")
    outcome.note("ended after", took)
    return outcome


@contextmanager
def _dead_etcd(fleet: Fleet) -> Iterator[None]:
    fleet.registry.members[0].kill()
    yield


@contextmanager
def _frozen_etcd(fleet: Fleet) -> Iterator[None]:
    fleet.registry.members[0].pause()
    yield


@contextmanager
def _no_etcd(_: Fleet) -> Iterator[None]:
    """It has never been registered."""
    yield


@contextmanager
def _hung_call(fleet: Fleet) -> Iterator[None]:
    port = fleet.servers[0].happenings("ready")[0].fields["port"]
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = EchoStub(channel).Unary.future(EchoRequest(message="for ever", delay=3600))
        while not fleet.servers[0].runs():
            fleet.run(0.05)
        yield
        call.cancel()


ENDINGS: Final[Mapping[str, _Ending]] = {
    "end-etcd-dead": _Ending(obstacle=_dead_etcd, within=10),
    "end-etcd-frozen": _Ending(obstacle=_frozen_etcd, within=10),
    "end-hung-call": _Ending(obstacle=_hung_call, within=20),
    "end-unregistered": _Ending(obstacle=_no_etcd, within=5, setup=Setup(late=True)),
}
