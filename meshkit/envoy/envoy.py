"""An Envoy as a child process: started, asked, drained, and never left behind."""

from __future__ import annotations

import json
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import anyio

from meshkit.envoy.admin import Admin, InUse
from meshkit.envoy.process import Child, child

__all__ = ["Drain", "Envoy", "EnvoyFlags", "envoy"]

_TICK: Final = 0.1  # seconds between two looks
_QUIET: Final = 1.0  # seconds without a connection, after which nobody comes any more


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class EnvoyFlags:
    """How an Envoy is started, besides its configuration.

    Attributes:
        concurrency: worker threads; None: one per core.
        log_level: of its lines on stderr.
    """

    concurrency: int | None = None
    log_level: str = "warning"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Drain:
    """How an Envoy leaves; times in seconds.

    Attributes:
        delay: the longest time for which it takes connections after it has said that it leaves;
            less, if nobody is connected any more.
        grace: how long calls may go on after that.
    """

    delay: float = 5.0
    grace: float = 15.0


@final
class Envoy:
    """A running Envoy.

    Args:
        program: the process.
        admin: its admin page.
    """

    def __init__(self, program: Child, admin: Admin) -> None:
        self.program = program
        self._admin = admin

    async def ready(self) -> None:
        """Return when it serves: the control plane has told it what to."""
        while not await self._admin.is_ready():  # noqa: ASYNC110 -- another process: no event
            await anyio.sleep(_TICK)

    async def drain(self, drain: Drain) -> None:
        """Leave, wait, finish, and ask it to end. Bounded by `drain`; one that is ill is ended."""
        with suppress(OSError):
            await self._admin.leave()
            with anyio.move_on_after(drain.delay):
                await self._until(lambda used: used.connections == 0, _QUIET)
            await self._admin.stop_listening()
            with anyio.move_on_after(drain.grace):
                await self._until(lambda used: used.calls == 0, 0)
        self.program.terminate()

    async def _until(self, is_over: Callable[[InUse], bool], lasting: float) -> None:
        """Return when `is_over` has been so for `lasting` seconds."""
        since = anyio.current_time()
        while True:
            if not is_over(await self._admin.in_use()):
                since = anyio.current_time() + _TICK
            elif anyio.current_time() >= since + lasting:
                return
            await anyio.sleep(_TICK)


@asynccontextmanager
async def envoy(
    binary: Path, bootstrap: Mapping[str, Any], flags: EnvoyFlags
) -> AsyncIterator[Envoy]:
    """An Envoy for the length of the block.

    Args:
        binary: the program.
        bootstrap: its configuration; if that has no admin page, one is added on a Unix socket that
            only this user can open.
        flags: how it is started.
    """
    with tempfile.TemporaryDirectory(prefix="meshkit-") as folder:
        socket, file = Path(folder, "admin"), Path(folder, "bootstrap.json")
        own = {"address": {"pipe": {"path": str(socket), "mode": 0o600}}}
        page = bootstrap.get("admin", own)
        file.write_text(json.dumps({**bootstrap, "admin": page}))  # noqa: ASYNC240 -- tiny
        tcp = page["address"].get("socket_address")
        admin = Admin((tcp["address"], tcp["port_value"]) if tcp else socket)
        async with child(str(binary), *_arguments(file, flags)) as program:
            yield Envoy(program, admin)


def _arguments(file: Path, flags: EnvoyFlags) -> list[str]:
    words = ["--config-path", str(file), "--log-level", flags.log_level]
    words += ["--use-dynamic-base-id"]  # several may run on one machine
    if flags.concurrency is not None:
        words += ["--concurrency", str(flags.concurrency)]
    return words
