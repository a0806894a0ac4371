"""A process of a scenario, from both sides: what all of them take, and how one is kept."""

from __future__ import annotations

import argparse
import ctypes
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.faults.journal import Call, Happening, Records, calls_of, happenings_of, runs_of

__all__ = ["Program", "arguments", "end_with_parent", "wait_until"]

_ROOT: Final = Path(__file__).parents[2]
_ENVIRONMENT: Final = {
    "MESHKIT_CACHE": "off",  # nothing helps but what it has seen
    "MALLOC_ARENA_MAX": "1",  # with one for each thread, memory grows although nothing is kept
}
_START: Final = 60.0  # seconds, on a machine that has other things to do
_END: Final = 60.0
_CORE: Final = re.compile(r"[IWEF]\d{4} |WARNING: All log messages before absl")


def arguments(description: str | None) -> argparse.ArgumentParser:
    """The flags that all programs have."""
    flags = argparse.ArgumentParser(description=description)
    flags.add_argument("--name", required=True, help="what the scenario calls it")
    flags.add_argument("--journal", required=True, help="path of its files, without suffix")
    flags.add_argument("--registry", required=True, help="registry URL")
    flags.add_argument("--service", default="echo")
    flags.add_argument("--ttl", type=float, default=5.0, help="of its lease, in seconds")
    return flags


def end_with_parent() -> None:
    """Be killed when the runner ends without having stopped us (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def wait_until(what: str, is_true: Callable[[], object], within: float) -> None:
    """Return when `is_true`; raises TimeoutError if `what` does not come `within` seconds."""
    deadline = time.monotonic() + within
    while not is_true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {within:g} s: {what}")
        time.sleep(0.02)


class Program:
    """A running process and what it has written. Has to be stopped."""

    def __init__(self, name: str, module: str, folder: Path, *flags: str) -> None:
        self.name = name
        stem = folder / name
        self._calls: Records[Call] = calls_of(stem)
        self._happenings: Records[Happening] = happenings_of(stem)
        self._runs: Records[str] = runs_of(stem)
        self._output = folder / f"{name}.output"
        command = [sys.executable, "-m", f"tests.faults.{module}"]
        command += ["--name", name, "--journal", str(stem), *flags]
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                cwd=_ROOT,
                env=os.environ | _ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    @property
    def output(self) -> str:
        """What it printed: nothing, if all is well; the log of gRPC's core is left out."""
        lines = self._output.read_text(errors="replace").splitlines()
        return "\n".join(line for line in lines if not _CORE.match(line))

    def calls(self) -> list[Call]:
        """Its calls that have ended so far."""
        return self._calls.so_far()

    def runs(self) -> list[str]:
        """The ids of the calls that its handlers were given so far."""
        return self._runs.so_far()

    def happenings(self, what: str) -> list[Happening]:
        """Its events of one name so far."""
        return [happening for happening in self._happenings.so_far() if happening.what == what]

    def wait_ready(self) -> Happening:
        """Return when it says that it is ready."""

        def is_ready() -> object:
            if self._process.poll() is not None:
                raise RuntimeError(f"{self.name} did not start: {self.output}")
            return self.happenings("ready")

        wait_until(f"{self.name} is ready", is_ready, _START)
        return self.happenings("ready")[0]

    def send(self, number: signal.Signals) -> float:
        """Send a signal; the time at which."""
        self._process.send_signal(number)
        return time.monotonic()

    def wait(self) -> int:
        """Return its exit status when it has ended."""
        return self._process.wait(_END)

    def stop(self) -> None:
        """End it, whatever state it is in; twice is fine."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
