"""Programs that a test starts as a user would, and ends."""

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path

import anyio


class Program:
    """A running program and the lines it has printed."""

    def __init__(self, process):
        self._process = process
        self.lines = []

    @property
    def pid(self):
        return self._process.pid

    async def until(self, word):
        """The line that has `word` in it; lines before it are read."""
        with anyio.fail_after(20):
            while True:
                line = (await self._process.stdout.readline()).decode().rstrip()
                if not line:
                    errors = (await self._process.stderr.read()).decode()
                    raise AssertionError(f"it ended before {word!r}: {self.lines} {errors}")
                self.lines.append(line)
                if word in line:
                    return line

    async def _takes(self, number):
        """Return when it has a handler for the signal: it may print before it takes one."""
        status = Path(f"/proc/{self._process.pid}/status")
        with anyio.fail_after(20):
            while status.exists() and not _caught(status.read_text()) >> (number - 1) & 1:
                await anyio.sleep(0.01)

    async def ended(self, number=None):
        """Its exit code and what is left of its output, after signal `number` if one is given."""
        if number is not None:
            if number != signal.SIGKILL:
                await self._takes(number)
            self._process.send_signal(number)
        with anyio.fail_after(30):
            output, errors = await self._process.communicate()
        self.lines += output.decode().splitlines()
        return self._process.returncode, errors.decode()


def _caught(status):
    [mask] = [line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:")]
    return int(mask, 16)


def program(*arguments, registry=None, **environ):
    """`python -m arguments...` for the length of a block."""
    if registry:
        environ["MESHKIT_REGISTRY"] = registry
    return started(sys.executable, "-m", *arguments, PYTHONUNBUFFERED="1", **environ)


@contextlib.asynccontextmanager
async def started(*command, **environ):
    """A command in a process group of its own; nothing of it survives the block."""
    ours = {k: v for k, v in os.environ.items() if not k.startswith("MESHKIT_")}
    process = await asyncio.create_subprocess_exec(
        *command,
        env=ours | environ,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield Program(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.communicate()
        process._transport.close()


async def bootstrap(plane, folder):
    """The file that clients of a control plane are started with, as `meshkit` prints it."""
    words = ("meshkit", "xds", "bootstrap", "--server", plane.address)
    async with program(*words) as printing:
        assert await printing.ended() == (0, "")
    file = folder / "bootstrap.json"
    file.write_text("\n".join(printing.lines))
    return str(file)


async def gone(sets):
    """Return when the watched set is empty."""
    with anyio.fail_after(20):
        async for endpoints in sets:
            if not endpoints:
                return
