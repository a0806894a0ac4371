"""The table `cases.json`, and whether the answers to a call are what it says."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

__all__ = ["CASES", "SERVERS", "Asked", "Case", "Server"]

_SURE: Final = 12  # calls that must all go to one destination
_SHARED: Final = 400  # calls that are drawn by lot
_DEVIATIONS: Final = 4.5  # of the standard: one table in a thousand is wrong by chance


@dataclass(frozen=True, kw_only=True)
class Server:
    """What a server announces; its name is what it answers with."""

    name: str
    version: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    weight: int = 100


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The same call several times, and who has to answer it.

    Attributes:
        path: of the method; all servers have all methods, with one request and one response.
        metadata: pairs.
        expected: which share of the answers comes from servers whose names begin like this, or
            ends with this status code; nobody else answers.
        stays: instead: all answers come from servers whose names begin like one of these.
        times: how often.
    """

    path: str
    metadata: tuple[tuple[str, str], ...] = ()
    expected: Mapping[str, float] = field(default_factory=dict)
    stays: tuple[str, ...] = ()
    times: int = 0

    def check(self, answers: Counter[str]) -> None:
        """Raise `AssertionError` if `answers`, by server or status code, are not as expected."""
        assert answers.total() == self.times, answers
        if self.stays:
            begins = {next((b for b in self.stays if a.startswith(b)), a) for a in answers}
            assert len(begins) == 1, f"{dict(answers)} of several of {self.stays}"
            assert begins <= set(self.stays), dict(answers)
            return
        for begin, share in self.expected.items():
            got = sum(count for name, count in answers.items() if name.startswith(begin))
            room = _DEVIATIONS * (self.times * share * (1 - share)) ** 0.5
            assert abs(got - self.times * share) <= room, f"{dict(answers)}, not {self.expected}"
            if begin in _MEMBERS and got >= 10 * len(_MEMBERS[begin]):  # all of them, not one
                assert _MEMBERS[begin] <= set(answers), f"{dict(answers)}: not all of {begin}"
        strangers = [a for a in answers if not a.startswith(tuple(self.expected))]
        assert not strangers, f"{dict(answers)}, not {self.expected}"


@dataclass(frozen=True, kw_only=True)
class Case:
    """Routes, and calls that are made while they hold.

    Attributes:
        name: what it shows.
        service: a name for the service of this case alone.
        routes: as in the service config; None: it has no such field.
        needs: what not every model has, or "".
        calls: to be made in this order.
    """

    name: str
    service: str
    routes: list[Any] | None
    needs: str
    calls: tuple[Asked, ...]

    @property
    def config(self) -> dict[str, Any]:
        """The service config that is published. All policies share calls evenly in turn."""
        turns: dict[str, Any] = {"loadBalancingConfig": [{"round_robin": {}}]}
        return turns if self.routes is None else {**turns, "routes": self.routes}


def _asked(document: dict[str, Any]) -> Asked:
    expected = document.get("expected", {})
    is_sure = len(expected) < 2
    return Asked(
        path=document["path"],
        metadata=tuple((key, value) for key, value in document.get("metadata", ())),
        expected=expected,
        stays=tuple(document.get("stays", ())),
        times=document.get("times", _SURE if is_sure else _SHARED),
    )


_TABLE: Final = json.loads(Path(__file__).with_name("cases.json").read_text("utf-8"))

SERVERS: Final = tuple(Server(name=name, **said) for name, said in _TABLE["servers"].items())

_MEMBERS: Final = {
    server.version: {s.name for s in SERVERS if s.version == server.version}
    for server in SERVERS
    if server.version
}

CASES: Final = tuple(
    Case(
        name=said["name"],
        service=f"case-{number}",
        routes=said["routes"],
        needs=said.get("needs", ""),
        calls=tuple(map(_asked, said["calls"])),
    )
    for number, said in enumerate(_TABLE["cases"])
)
