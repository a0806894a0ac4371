"""Child processes that never outlive this one."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final, final

import anyio

__all__ = ["Child", "child"]

# The kernel ends the child when this process dies, even by SIGKILL.
_DIE_WITH_PARENT: Final = """
import ctypes, os, signal, sys
parent, command = int(sys.argv[1]), sys.argv[2:]
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG; kept by exec
    if os.getppid() != parent:
        sys.exit("orphaned before the start")
try:
    os.execvp(command[0], command)
except OSError as error:
    sys.exit(f"{command[0]}: {error.strerror}")
"""


@final
class Child:
    """A program that runs, or has run."""

    def __init__(self, process: Process) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def ended(self) -> int:
        """Its exit status as shells have it, when it has ended: 143 for SIGTERM."""
        status = await self._process.wait()
        return 128 - status if status < 0 else status

    def terminate(self) -> None:
        """Ask it to end."""
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):  # it has ended
            self._process.send_signal(number)


@asynccontextmanager
async def child(*command: str) -> AsyncIterator[Child]:
    """A program for the length of the block; killed at its end, if it has not ended before.

    It has a session of its own: a Ctrl-C in the terminal is for us, who pass it on.
    """
    words = (sys.executable, "-c", _DIE_WITH_PARENT, str(os.getpid()), *command)
    process = await asyncio.create_subprocess_exec(*words, stdin=DEVNULL, start_new_session=True)
    running = Child(process)
    try:
        yield running
    finally:
        running.kill()
        with anyio.CancelScope(shield=True):  # the kernel ends it at once
            await process.wait()
