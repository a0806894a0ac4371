"""What is done to servers, and what must come of it."""

from __future__ import annotations

import json
import math
import signal
from typing import Final

from tests.faults.fleet import Fleet, Size
from tests.faults.journal import OK, Call
from tests.faults.outcome import Outcome, failures
from tests.faults.program import Program, wait_until

__all__ = ["hung", "kill", "policies", "rolling", "streams_cut"]

_SOON: Final = 0.5  # seconds in which a client must notice that a connection died
_LEAVE: Final = 1.0  # seconds in which a server must have left the registry
_LEASE_CHECK: Final = 1.5  # seconds that etcd may take to see that a lease has ended, and to say so
_PINGS: Final = 8.0  # seconds after which pings tell that a server hangs
_POLICIES: Final = ("p2c", "ring_hash", "least_request")
_NEWS: Final = 1.0  # seconds in which clients must have heard of a service config
_NOISE: Final = 1.5  # seconds; the machine may have other things to do


def rolling(size: Size) -> Outcome:
    """Every server is replaced, one after the other: no call fails."""
    outcome = Outcome(f"rolling ({size.distance:g} s away)" if size.distance else "rolling")
    left, drained, ready = [], [], []
    with Fleet(size) as fleet:
        fleet.run(size.seconds)
        for old in list(fleet.servers):
            asked_at = old.send(signal.SIGTERM)
            status = old.wait()
            outcome.require(status == 0, f"{old.name} exited with {status}")
            (withdrawn,) = old.happenings("endpoint.withdrawn")
            outcome.require(withdrawn.fields["confirmed"], f"{old.name} was not withdrawn")
            left.append(withdrawn.at - asked_at)
            drained.append(old.happenings("server.drained")[0].at - asked_at)
            # On the same port: clients may still be trying to reach the old one there.
            new = fleet.replace(old, port=old.happenings("ready")[0].fields["port"])
            ready.append(new.wait_ready().at)
        fleet.run(size.seconds)
        outcome.finish(fleet)
        answered = [_first_answer(outcome.calls, new.name) for new in fleet.servers]
    outcome.require_no_failure()
    outcome.require(max(left) <= _LEAVE, f"deregistered only after {max(left):.2f} s")
    outcome.require(max(answered) < math.inf, "a new server was never called")
    outcome.note("deregistered after", *left)
    outcome.note("drained after", *drained)
    outcome.note("called after", *(a - r for a, r in zip(answered, ready, strict=True)))
    return outcome


def _first_answer(calls: list[Call], server: str, after: float = 0.0) -> float:
    """When the first call that was sent to `server` after a time was answered."""
    good = (c.end for c in calls if c.to == server and c.code == OK and c.start > after)
    return min(good, default=math.inf)


def kill(size: Size) -> Outcome:
    """A server is killed: it takes with it what it was working on, and nothing else."""
    outcome = Outcome("kill")
    with Fleet(size) as fleet:
        fleet.run(2)
        victim = fleet.servers.pop()
        killed_at = victim.send(signal.SIGKILL)
        wait_until("the dead one is forgotten", fleet.is_settled, size.ttl + 10)
        fleet.run(1)
        outcome.finish(fleet)
        gone = [_forgotten_at(client, victim.name) for client in fleet.clients]
    late = [c for c in outcome.calls if c.to == victim.name and c.start > killed_at + _SOON]
    outcome.require(not late, f"{len(late)} calls were sent to the dead server")
    in_flight = [c for c in outcome.calls if c.to == victim.name and c.end > killed_at]
    others = [c for c in failures(outcome.calls) if c not in in_flight]
    outcome.require(not others, f"{len(others)} calls failed that were not in flight there")
    slowest = max(gone) - killed_at
    outcome.require(slowest <= size.ttl + _LEASE_CHECK, f"known for another {slowest:.2f} s")
    outcome.figures["in flight on it"] = f"{len(in_flight)}"
    outcome.note("last sent to it after", _last_sent(outcome.calls, victim.name) - killed_at)
    outcome.note("forgotten after", *(at - killed_at for at in gone))
    return outcome


def _forgotten_at(client: Program, server: str) -> float:
    changes = client.happenings("endpoints.changed")
    return next(c.at for c in changes if server in c.fields["delta"]["removed"].values())


def _last_sent(calls: list[Call], server: str) -> float:
    return max(call.start for call in calls if call.to == server)


def hung(size: Size) -> Outcome:
    """A server hangs and goes on later: pings find out, and find it well again."""
    outcome = Outcome("hung")
    with Fleet(size) as fleet:
        fleet.run(2)
        victim = fleet.servers[0]
        hung_at = victim.send(signal.SIGSTOP)
        fleet.run(size.seconds)
        resumed_at = victim.send(signal.SIGCONT)
        wait_until(
            "it takes calls again",
            lambda: _first_answer(fleet.calls(), victim.name, resumed_at) < math.inf,
            size.ttl,
        )
        fleet.run(1)
        outcome.finish(fleet)
        noticed = [_noticed_at(client, victim.name) - hung_at for client in fleet.clients]
    outcome.require(max(noticed) <= _PINGS + _NOISE, f"noticed only after {max(noticed):.2f} s")
    lost = failures(outcome.calls)
    others = [call for call in lost if call.to != victim.name]
    outcome.require(not others, f"{len(others)} calls failed that were not sent to it")
    overdue = [c for c in lost if c.code not in {"DEADLINE_EXCEEDED", "UNAVAILABLE"}]
    outcome.require(not overdue, f"{len(overdue)} calls ended in another way than they should")
    outcome.note("noticed after", *noticed)
    last = max((call.start for call in lost), default=hung_at) - hung_at
    outcome.require(last <= _PINGS + _NOISE, f"calls were lost that were sent {last:.2f} s later")
    outcome.note("last lost call sent after", last)
    outcome.note(
        "last lost call ended after", max((c.end for c in lost), default=hung_at) - hung_at
    )
    again = _first_answer(outcome.calls, victim.name, resumed_at)
    outcome.note("took calls again after", again - resumed_at)
    return outcome


def _noticed_at(client: Program, server: str) -> float:
    failing = client.happenings("endpoint.failing")
    return next((e.at for e in failing if e.fields["endpoint"] == server), math.inf)


def streams_cut(size: Size) -> Outcome:
    """A server leaves under streams that outlive its grace: they are told, and cut."""
    outcome = Outcome("streams-cut")
    with Fleet(size) as fleet:
        fleet.run(1)
        victim = fleet.servers.pop()
        victim.send(signal.SIGTERM)
        status = victim.wait()
        outcome.require(status == 0, f"{victim.name} exited with {status}")
        told, cut = victim.happenings("stream.told"), victim.happenings("server.streams_cut")
        fleet.run(1)
        outcome.finish(fleet)
    lost = failures(outcome.calls)
    others = [c for c in lost if (c.to, c.kind, c.code) != (victim.name, "stream", "UNAVAILABLE")]
    outcome.require(not others, f"{len(others)} calls failed in another way")
    reported = sum(sum(event.fields["calls"].values()) for event in cut)
    outcome.require(lost, "no stream was cut: there was nothing to see")
    outcome.require(len(lost) == reported, f"{len(lost)} were cut, the event says {reported}")
    outcome.require(len(told) >= len(lost), f"{len(told)} were told, {len(lost)} cut")
    outcome.figures["streams told"] = f"{len(told)}"
    return outcome


def policies(size: Size) -> Outcome:
    """The balancing policy changes while calls run, and a bad config comes: no call fails."""
    outcome = Outcome("policies")
    took = []
    with Fleet(size) as fleet:
        fleet.run(1)
        for number, name in enumerate(_POLICIES):
            config = json.dumps({"loadBalancingConfig": [{name: {}}]})
            changed_at = fleet.registry.configure(config)
            fleet.run(size.seconds)
            heard = [client.happenings("service.config_changed") for client in fleet.clients]
            outcome.require(all(len(h) == number + 1 for h in heard), f"{name} was not heard of")
            took += [h[-1].at - changed_at for h in heard]
        fleet.registry.configure('{"loadBalancingConfig": [{"p2c": {"x": 1}}, 7')
        fleet.run(size.seconds)
        outcome.finish(fleet)
        refused = [len(client.happenings("service.config_refused")) for client in fleet.clients]
    outcome.require(set(refused) == {1}, f"the bad one was refused {refused} times")
    outcome.require_no_failure()
    outcome.require(max(took) <= _NEWS + _NOISE, f"heard of only after {max(took):.2f} s")
    outcome.note("heard of after", *took)
    return outcome
