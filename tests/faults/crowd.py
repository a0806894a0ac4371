"""Many endpoints at once, and servers that ail among well ones."""

from __future__ import annotations

import time
from typing import Final

from tests.faults.fleet import Fleet, Size
from tests.faults.journal import OK
from tests.faults.outcome import Outcome, longest_gap
from tests.faults.program import wait_until

__all__ = ["ailing", "crowd"]

_VIEW: Final = 10.0  # seconds in which the clients must know all
_GAP: Final = 2.0  # seconds without any answer


def crowd(size: Size) -> Outcome:
    """A crowd is announced at once, and half of it goes; nobody of it can be reached."""
    outcome = Outcome("crowd")
    with Fleet(size) as fleet:
        keys = [f"crowd-{number:05}" for number in range(size.crowd)]
        fleet.run(1)
        for what, change in {
            "all known": lambda: fleet.registry.announce_all(keys),
            "half gone": lambda: fleet.registry.erase(keys[0], before=keys[len(keys) // 2]),
        }.items():
            change()
            began = time.monotonic()
            wait_until(what, fleet.agrees, 3 * _VIEW)
            took = time.monotonic() - began
            outcome.require(took <= _VIEW, f"{what} only after {took:.2f} s")
            outcome.note(f"{what} after", took)
            fleet.run(1)
        outcome.finish(fleet)
        late = [c.happenings("done")[0].fields["late"] for c in fleet.clients]
    outcome.require_no_failure()
    gap = longest_gap(outcome.calls)
    outcome.require(gap < _GAP, f"nothing was answered for {gap:.2f} s")
    outcome.note("loop held up for", *late)
    return outcome


def ailing(size: Size) -> Outcome:
    """One server ails, others are well; calls are not yet kept from it, so this only measures."""
    outcome = Outcome(f"one of {size.servers} {size.ails}")
    with Fleet(size) as fleet:
        fleet.run(size.seconds)
        outcome.finish(fleet)
    unary = [call for call in outcome.calls if call.kind != "stream"]
    sent = [call for call in unary if call.to == "s0"]
    others = [call for call in unary if call.to != "s0" and call.code != OK]
    outcome.require(not others, f"{len(others)} calls failed that were sent to well servers")
    outcome.figures["its share"] = f"{len(sent) / len(unary):.1%}"
    return outcome
