"""What came of a scenario: its figures, and what is wrong with them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise

from tests.faults.fleet import Fleet
from tests.faults.journal import OK, Call

__all__ = ["Outcome", "failures", "longest_gap"]

_SHOWN = 5


def failures(calls: list[Call]) -> list[Call]:
    """The calls that did not end well."""
    return [call for call in calls if call.code != OK]


def longest_gap(calls: list[Call]) -> float:
    """The longest time without any fast call that ended well, in seconds."""
    ends = sorted(call.end for call in calls if call.code == OK and call.kind == "fast")
    return max((later - earlier for earlier, later in pairwise(ends)), default=0.0)


@dataclass
class Outcome:
    """The figures of one run; `problems` is empty if all is as it has to be."""

    scenario: str
    calls: list[Call] = field(default_factory=list)
    figures: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def finish(self, fleet: Fleet) -> None:
        """End the load, and take what holds for every scenario."""
        fleet.end_clients()
        self.calls = fleet.calls()
        for client in fleet.clients:
            (done,) = client.happenings("done")
            begun, told = done.fields["begun"], len(client.calls())
            self.require(begun == told, f"{client.name} began {begun} calls and told of {told}")
        runs = Counter(call for program in fleet.programs for call in program.runs())
        twice = [call for call, times in runs.items() if times > 1]
        self.require(not twice, f"{len(twice)} calls ran more than once: {twice[:_SHOWN]}")
        unrun = [call.id for call in self.calls if call.code == OK and call.id not in runs]
        self.require(not unrun, f"{len(unrun)} calls were answered and never ran: {unrun[:_SHOWN]}")
        for program in fleet.programs:
            self.require(not program.output, f"{program.name} printed: {program.output[:500]}")

    def require(self, is_so: object, otherwise: str) -> None:
        """Take note of a problem, unless `is_so`."""
        if not is_so:
            self.problems.append(otherwise)

    def require_no_failure(self) -> None:
        """No call at all may have failed."""
        lost = failures(self.calls)
        self.require(not lost, f"{len(lost)} calls failed")

    def note(self, what: str, *seconds: float) -> None:
        """A figure, or several of one kind."""
        self.figures[what] = " ".join(f"{each:.2f}" for each in seconds) + " s"

    def line(self) -> str:
        """All of it for people, the details of failures on lines of their own."""
        lost = failures(self.calls)
        codes = Counter(call.code for call in lost)
        kinds = Counter(call.kind for call in self.calls)
        parts = [
            f"{self.scenario}: {'FAILED' if self.problems else 'ok'}",
            f"{len(self.calls)} calls ({', '.join(f'{n} {k}' for k, n in sorted(kinds.items()))})",
            f"{len(lost)} failed" + "".join(f", {n} {code}" for code, n in codes.items()),
            f"longest gap {longest_gap(self.calls):.2f} s",
            *(f"{what} {figure}" for what, figure in self.figures.items()),
        ]
        began = self.calls[0].start if self.calls else 0.0
        details = [
            f"    {call.kind} to {call.to or 'nobody'}, {call.start - began:.3f} s "
            f"+ {call.end - call.start:.3f} s: {call.code} {call.details}"
            for call in lost[:_SHOWN]
        ]
        problems = [f"    PROBLEM: {problem}" for problem in self.problems]
        return "\n".join((" | ".join(parts), *details, *problems))
