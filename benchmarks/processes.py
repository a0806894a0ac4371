"""Processes beside the benchmark: where they run, what CPU they use, and that none is left."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

_READY_WITHIN = 10.0  # seconds


def split_cores() -> tuple[set[int], set[int]]:
    """The core of the measured client, and those of all others; the same one if there is one."""
    cores = sorted(os.sched_getaffinity(0))
    return {cores[0]}, set(cores[1:]) or {cores[0]}


@contextmanager
def on_cores(cores: set[int] | None) -> Iterator[None]:
    """This thread, and what it starts, runs on `cores` for the length of the block."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores or before)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def running(
    command: Sequence[str], *, cores: set[int] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """A process for the length of the block, or of this one's life; its output can be read."""
    with on_cores(cores):  # before it has threads, each of which would keep its own cores
        process = subprocess.Popen(
            [*_dying_with_parent(), *command], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL,
            text=True,
        )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _dying_with_parent() -> list[str]:
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL"] if setpriv else []


def wait_listening(process: subprocess.Popen[str], port: int) -> None:
    """Return when `port` of this machine takes connections.

    Raises:
        RuntimeError: the process ended, or took longer than 10 seconds.
    """
    deadline = time.monotonic() + _READY_WITHIN
    while process.poll() is None and time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise RuntimeError(f"{process.args} does not listen (exit status {process.poll()})")


def cpu_of(pid: int) -> float:
    """Seconds of CPU that a process has used, all its threads together."""
    return time.clock_gettime((~pid << 3) | 2)  # what clock_getcpuclockid(3) makes of a pid
