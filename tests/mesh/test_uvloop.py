"""A whole mesh on uvloop, and the same on asyncio's own loop.

In programs of their own: gRPC has one poller for all loops of a process, and its last words to a
loop that is closed would be heard in another test.
"""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_deadlines_limits_reports_and_drains(loop: str) -> None:
    command = [sys.executable, "-W", "error", "-m", "tests.mesh.two_services", loop]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=50)
    assert (done.returncode, done.stdout) == (0, f"{loop} ended well\n"), done.stderr
    # gRPC itself may complain there of answers that nobody waits for any more.
    assert "never awaited" not in done.stderr, done.stderr
    assert "was destroyed" not in done.stderr, done.stderr


def test_meshkit_leaves_the_choice_of_the_loop_to_the_program() -> None:
    code = """
import asyncio, sys, meshkit

async def main():
    async with meshkit.Mesh("memory://loop"):
        return type(asyncio.get_running_loop()).__module__

sys.exit("uvloop" in sys.modules or not asyncio.run(main()).startswith("asyncio."))
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
