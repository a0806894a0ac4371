"""A gRPC client in a process of its own: one line of JSON in, one out.

gRPC reads its xDS bootstrap from the environment, when it first needs it.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio

from tests.routing.native import Channelled
from tests.routing.table import Asked

__all__ = ["Callers", "callers"]


class Callers:
    """The process, from the test's side."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    def to(self, target: str, **options: str) -> Caller:
        """A caller of a target, in gRPC's words, by a channel with these options."""
        return Caller(self, target, {name.replace("_", "."): o for name, o in options.items()})

    async def ask(self, question: Mapping[str, Any]) -> Any:
        """The answer to one line."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question).encode() + b"\n")
        await self._process.stdin.drain()
        return json.loads(await self._process.stdout.readline())


class Caller:
    """Calls one target."""

    def __init__(self, callers: Callers, target: str, options: Mapping[str, str]) -> None:
        self._callers = callers
        self._to = {"target": target, "options": options}

    async def answers(self, asked: Asked) -> Counter[str]:
        what = {"path": asked.path, "metadata": asked.metadata, "times": asked.times}
        return Counter(await self._callers.ask(self._to | what))


@asynccontextmanager
async def callers(environ: Mapping[str, str] | None = None) -> AsyncIterator[Callers]:
    """A process, for the length of a block; with more in its environment."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.routing.caller",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, **(environ or {})},
    )
    try:
        yield Callers(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


# ---- the process


async def main() -> None:
    loop = asyncio.get_running_loop()
    channels: dict[str, Channelled] = {}
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        question = json.loads(line)
        target, options = question.pop("target"), question.pop("options")
        key = f"{target} {options}"
        if key not in channels:
            channel = grpc.aio.insecure_channel(target, options=tuple(options.items()))
            channels[key] = Channelled(channel)
        question["metadata"] = tuple(map(tuple, question["metadata"]))
        print(json.dumps(await channels[key].answers(Asked(**question))), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
