"""What a process of a scenario holds: tasks, descriptors and memory. Nothing of it may grow."""

from __future__ import annotations

import asyncio
import os
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn, Self

from tests.faults.journal import Happening, Journal

__all__ = ["Growth", "tell_vitals"]

_EVERY: Final = 1.0  # seconds
_PROC: Final = Path("/proc/self")  # Linux; elsewhere only tasks are told
_WARM: Final = 0.25  # of the time: imports, pools and caches fill up
_MB: Final = 1e6  # bytes


async def tell_vitals(journal: Journal) -> NoReturn:
    """Write down, for ever, what this process holds."""
    while True:
        pages = int((_PROC / "statm").read_text().split()[1]) if _PROC.exists() else 0
        journal.note(
            "vitals",
            tasks=len(asyncio.all_tasks()),
            fds=len(list((_PROC / "fd").iterdir())) if _PROC.exists() else 0,
            rss=pages * os.sysconf("SC_PAGE_SIZE"),
        )
        await asyncio.sleep(_EVERY)


@dataclass(frozen=True)
class Growth:
    """How much more a process held at the end than once it was warm, in the last and first quarter.

    Attributes:
        tasks: the fewest: calls and reconnections come and go.
        fds: likewise.
        rss: the median, in MB.
        slope: of it, in MB per hour.
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

        def growth(what: str, reduce: Callable[[list[float]], float]) -> float:
            first, last = ([v.fields[what] for v in part] for part in (warm[:some], warm[-some:]))
            return reduce(last) - reduce(first)

        hours = [v.at / 3600 for v in warm]
        memory = [v.fields["rss"] / _MB for v in warm]
        slope = statistics.linear_regression(hours, memory).slope
        return cls(
            growth("tasks", min), growth("fds", min), growth("rss", statistics.median) / _MB, slope
        )
