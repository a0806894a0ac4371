"""What a process of a scenario holds: tasks, descriptors and memory. Nothing of it may grow."""

from __future__ import annotations

import asyncio
import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn, Self

from tests.faults.journal import Happening, Journal

__all__ = ["Growth", "note_vitals", "tell_vitals"]

_EVERY: Final = 1.0  # seconds
_PROC: Final = Path("/proc/self")  # Linux; elsewhere only tasks are told
_WARM: Final = 0.25  # of the time: imports, pools and caches fill up
_MB: Final = 1e6  # bytes


def note_vitals(journal: Journal) -> None:
    """Write down what this process holds."""
    pages = int((_PROC / "statm").read_text().split()[1]) if _PROC.exists() else 0
    journal.note(
        "vitals",
        tasks=len(asyncio.all_tasks()),
        fds=len(list((_PROC / "fd").iterdir())) if _PROC.exists() else 0,
        rss=pages * os.sysconf("SC_PAGE_SIZE"),
    )


async def tell_vitals(journal: Journal) -> NoReturn:
    """Write it down for ever."""
    while True:
        note_vitals(journal)
        await asyncio.sleep(_EVERY)


@dataclass(frozen=True)
class Growth:
    """How much more a process held in the end.

    Attributes:
        tasks: at rest, after the last call, than before the first one: in between a busy machine
            has more calls under way.
        fds: likewise.
        rss: in the last quarter of the time than in the first one once it was warm; medians, in MB.
        slope: of that, in MB per hour.
    """

    tasks: float
    fds: float
    rss: float
    slope: float

    @classmethod
    def of(cls, vitals: Sequence[Happening]) -> Self:
        """From all that a process told."""
        warm = vitals[round(len(vitals) * _WARM) :]
        some = max(1, len(warm) // 4)
        memory = [v.fields["rss"] / _MB for v in warm]
        return cls(
            tasks=vitals[-1].fields["tasks"] - vitals[0].fields["tasks"],
            fds=vitals[-1].fields["fds"] - vitals[0].fields["fds"],
            rss=statistics.median(memory[-some:]) - statistics.median(memory[:some]),
            slope=statistics.linear_regression([v.at / 3600 for v in warm], memory).slope,
        )
