"""What a process of a scenario holds: tasks, descriptors and memory. Nothing of it may grow."""

from __future__ import annotations

import asyncio
import ctypes
import os
import statistics
import sys
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
_BLOCK: Final = 80  # bytes of an object, on average


class _Mallinfo2(ctypes.Structure):
    """What glibc's malloc tells of itself, in bytes."""

    _fields_ = (
        *((name, ctypes.c_size_t) for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd")),
        *((name, ctypes.c_size_t) for name in ("usmblks", "fsmblks", "uordblks", "fordblks")),
        ("keepcost", ctypes.c_size_t),
    )


def _mallinfo2() -> _Mallinfo2 | None:
    """None where there is another malloc."""
    function = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if function is None:
        return None
    function.restype = _Mallinfo2
    told: _Mallinfo2 = function()
    return told


def _in_use() -> int | None:
    """Bytes that Python and malloc have given out and not got back; None where malloc is mute.

    Resident memory is more: what an allocator keeps for later, in pieces of which some are in use.
    malloc tells of its first arena only, and our programs have no other.
    """
    told = _mallinfo2()
    if told is None:
        return None
    return int(told.uordblks + told.hblkhd) + sys.getallocatedblocks() * _BLOCK


def note_vitals(journal: Journal) -> None:
    """Write down what this process holds."""
    pages = int((_PROC / "statm").read_text().split()[1]) if _PROC.exists() else 0
    journal.note(
        "vitals",
        tasks=len(asyncio.all_tasks()),
        fds=len(list((_PROC / "fd").iterdir())) if _PROC.exists() else 0,
        rss=(rss := pages * os.sysconf("SC_PAGE_SIZE")),
        in_use=_in_use() or rss,
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
        memory: in use, in the last quarter of the time than in the first one once it was warm;
            medians, in MB.
        slope: of that, in MB per hour.
        rss_slope: of the resident memory, in MB per hour.
    """

    tasks: float
    fds: float
    memory: float
    slope: float
    rss_slope: float

    @classmethod
    def of(cls, vitals: Sequence[Happening]) -> Self:
        """From all that a process told."""
        warm = vitals[round(len(vitals) * _WARM) :]
        some = max(1, len(warm) // 4)
        memory = [v.fields["in_use"] / _MB for v in warm]
        resident = [v.fields["rss"] / _MB for v in warm]
        hours = [v.at / 3600 for v in warm]
        return cls(
            tasks=vitals[-1].fields["tasks"] - vitals[0].fields["tasks"],
            fds=vitals[-1].fields["fds"] - vitals[0].fields["fds"],
            memory=statistics.median(memory[-some:]) - statistics.median(memory[:some]),
            slope=statistics.linear_regression(hours, memory).slope,
            rss_slope=statistics.linear_regression(hours, resident).slope,
        )
