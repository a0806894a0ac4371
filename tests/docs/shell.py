"""A shell as a reader has it, for the console blocks of one page."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.docs.markdown import ROOT, Block, same_shape

__all__ = ["Shell", "commands"]

_TIMEOUT = 20.0
# What bash says of its jobs differs with the way it was started.
_ABOUT_JOBS = re.compile(r"^(\[\d+\].*|.*\b(Killed|Terminated|Done)\b.*)\n?", re.MULTILINE)


def commands(block: Block) -> list[tuple[str, str]]:
    """The commands of a console block, each with the output that is shown below it."""
    found: list[tuple[str, str]] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            found.append((line.removeprefix("$ "), ""))
        elif line.startswith("> "):
            found[-1] = (f"{found[-1][0]}\n{line.removeprefix('> ')}", "")
        elif found and line:
            found[-1] = (found[-1][0], f"{found[-1][1]}{line}\n")
    return found


def _without(said: str, perhaps: str) -> str:
    """What was said, without what may come or not."""
    said = _ABOUT_JOBS.sub("", said)
    return re.sub(rf"^.*\b(?:{perhaps})\b.*\n", "", said, flags=re.MULTILINE) if perhaps else said


class Shell:
    """bash with job control; `$ python` and `$ .venv/bin/python` are the tests' own Python.

    Args:
        folder: where it works.
        replace: what is said otherwise than on the page: addresses, mostly.
    """

    def __init__(self, folder: Path, replace: Mapping[str, str]) -> None:
        self._replace = {".venv/bin/": f"{Path(sys.executable).parent}/", **replace}
        self._said = ""
        # PYTHONUNBUFFERED would let the lines of two jobs run into each other.
        kept = (k for k in os.environ if not k.startswith(("MESHKIT_", "PYTHON")))
        environment = {k: os.environ[k] for k in kept} | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": "error",
            "XDG_RUNTIME_DIR": str(folder),
        }
        self._bash = subprocess.Popen(
            ["bash", "--norc"],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            bufsize=1,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._tell("set -m; trap 'kill -9 $(jobs -p) 2>/dev/null' EXIT")

    def _read(self) -> None:
        assert self._bash.stdout is not None
        for line in self._bash.stdout:
            self._said += line

    def _tell(self, command: str) -> None:
        assert self._bash.stdin is not None
        self._bash.stdin.write(f"{command}\n")
        self._bash.stdin.flush()

    def run(self, command: str, shown: str, *, perhaps: str = "") -> None:
        """Run a command; what comes out of it, or of jobs meanwhile, has to be what is shown.

        Lines with one of the words `perhaps` (a pattern) may come or not.
        """
        for old, new in self._replace.items():
            command, shown = command.replace(old, new), shown.replace(old, new)
            perhaps = perhaps.replace(old, new)
        self._said = ""
        self._tell(f"{command}\necho '<ended>'")
        deadline = time.monotonic() + _TIMEOUT
        shown = _without(shown, perhaps)
        while time.monotonic() < deadline:
            before, ended, after = self._said.partition("<ended>\n")
            real = _without(before + after, perhaps)
            if ended and same_shape(shown, real):
                if "kill" in command:
                    self._forget_jobs()
                return
            time.sleep(0.05)
        raise AssertionError(f"$ {command}\nshown:\n{shown}\nreal:\n{self._said}")

    def _forget_jobs(self) -> None:
        """Let those that were killed end, and free their numbers, as the next prompt does."""
        time.sleep(0.8)
        self._tell("jobs >/dev/null")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._tell("exit")
            self._bash.wait(5)
        except (OSError, subprocess.TimeoutExpired):
            os.killpg(self._bash.pid, signal.SIGKILL)
            self._bash.wait()
        self._reader.join(5)
        for pipe in (self._bash.stdin, self._bash.stdout):
            assert pipe is not None
            pipe.close()
