"""Children end with us, and we know how they ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import anyio
import pytest

from meshkit.envoy import child

pytestmark = pytest.mark.anyio


def gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


SLEEP = (sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)")


async def test_its_exit_status_is_known():
    async with child(sys.executable, "-c", "raise SystemExit(7)") as program:
        assert await program.ended() == 7
        program.terminate()  # too late: nothing happens


async def test_a_signal_ends_it_and_shows_in_the_status():
    async with child(*SLEEP) as program:
        program.terminate()
        with anyio.fail_after(20):
            assert await program.ended() == 128 + signal.SIGTERM


async def test_it_does_not_outlive_the_block():
    async with child(*SLEEP) as program:
        assert not gone(program.pid)
    assert gone(program.pid)


async def test_a_program_that_is_not_there_is_told(capfd):
    async with child("/nowhere/program") as program:
        assert await program.ended() == 1
    assert "/nowhere/program: No such file or directory" in capfd.readouterr().err


PARENT = """
import asyncio, sys
from meshkit.envoy import child

async def main():
    async with child(sys.executable, "-c", "import time; time.sleep(60)") as program:
        print(program.pid, flush=True)
        await program.ended()

asyncio.run(main())
"""


async def test_it_does_not_outlive_a_parent_that_is_killed():
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE) as parent:
        pid = int(await anyio.to_thread.run_sync(parent.stdout.readline))
        assert not gone(pid)
        os.kill(parent.pid, signal.SIGKILL)
    with anyio.fail_after(20):
        while not gone(pid):
            await anyio.sleep(0.02)
