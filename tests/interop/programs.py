"""The programs in Go as tests see them: what each framework can, its clients, its servers."""

import asyncio
import json
import signal
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

from meshkit.testing.etcd import EtcdProcess, free_ports

START_WITHIN = 20.0  # seconds
LEAVE_WITHIN = 10.0  # go-zero alone takes 5.5 s


@dataclass(frozen=True, kw_only=True)
class Framework:
    """One that finds its services in etcd.

    Attributes:
        program: its folder under `go/`.
        layout: ours of the same keys and values.
        above: what stands before the name of a service, where the framework does not know of it.
        neutral: what its servers announce as a weight that is 100 here; 0: they announce none.
        weighs: whether its clients look at weights.
        polls: seconds between its looks at etcd; 0: it watches.
    """

    program: str
    layout: str
    above: str = ""
    neutral: int = 0
    weighs: bool = False
    polls: float = 0.0


FRAMEWORKS = (
    Framework(program="etcd", layout="meshkit", above="meshkit/default/", neutral=100),
    Framework(program="gozero", layout="go-zero"),
    Framework(program="kratos", layout="kratos", neutral=100, weighs=True),
    Framework(program="kitex", layout="kitex", neutral=10, weighs=True, polls=5.0),
)
NAME = attrgetter("program")


@dataclass(frozen=True)
class Outcome:
    """Who answered how often, and what went wrong instead."""

    replies: Counter[str]
    errors: list[str]


class GoClient:
    """A client that calls when it is told to."""

    def __init__(self, process: Process) -> None:
        self._process = process

    async def calls(self, count: int) -> Outcome:
        """Make `count` calls, one after the other."""
        self._process.stdin.write(f"{count}\n".encode())
        line = await asyncio.wait_for(self._process.stdout.readline(), START_WITHIN)
        outcome = json.loads(line)
        return Outcome(Counter(outcome["replies"]), outcome["errors"])


class Peers:
    """Starts programs of one framework for the services of one etcd.

    Args:
        folder: where the programs are.
        logs: a folder for what they say.
    """

    def __init__(self, folder: Path, framework: Framework, etcd: EtcdProcess, logs: Path) -> None:
        self._folder = folder
        self._framework = framework
        self._etcd = etcd.url.removeprefix("etcd://")
        self._logs = logs

    @asynccontextmanager
    async def client(self, service: str) -> AsyncIterator[GoClient]:
        """A client for the length of the block; it ends with its input."""
        async with self._running("call", service, "client", stdin=PIPE, stdout=PIPE) as process:
            yield GoClient(process)
            process.stdin.close()

    @asynccontextmanager
    async def server(self, service: str, name: str, *, times: int = 1) -> AsyncIterator[None]:
        """A server of so many times the usual weight, which leaves at the end of the block."""
        (port,) = free_ports(1)
        weight = self._framework.neutral * times
        flags = [f"-listen=127.0.0.1:{port}", f"-name={name}", f"-weight={weight}"]
        async with self._running("serve", service, name, *flags, stdout=DEVNULL) as process:
            yield
            process.terminate()

    @asynccontextmanager
    async def _running(
        self, role: str, service: str, name: str, *flags: str, **pipes: int
    ) -> AsyncIterator[Process]:
        command = [str(self._folder / self._framework.program), role, f"-etcd={self._etcd}"]
        command += [f"-service={self._framework.above}{service}", *flags]
        with (self._logs / f"{name}.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(*command, stderr=log, **pipes)
        try:
            yield process
            await asyncio.wait_for(process.wait(), LEAVE_WITHIN)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        # go-zero, when it has left, kills itself with the signal that it was sent.
        assert process.returncode in (0, -signal.SIGTERM), (self._logs / f"{name}.log").read_text()
