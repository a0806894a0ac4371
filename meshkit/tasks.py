"""Who owns background tasks: a supervisor with a task group of its own.

The group is entered and left inside one task, so that whoever opens a mesh may close it from
another task (pytest fixtures, aiohttp's start-up and clean-up): an anyio scope must not be left
elsewhere than it was entered.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final, TypeVarTuple, final

import anyio
import anyio.abc

from meshkit.backoff import Backoff
from meshkit.events import Emit, TaskCrashed

__all__ = ["Job", "Supervisor"]

Ts = TypeVarTuple("Ts")

_RESTART: Final = Backoff(first=0.1, limit=5.0)


@final
class Job:
    """A task of a supervisor: it can be cancelled and waited for."""

    __slots__ = ("_ended", "_scope", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self._scope = anyio.CancelScope()
        self._ended = anyio.Event()

    def cancel(self) -> None:
        """Ask the task to end; safe before it has begun and after it has ended."""
        self._scope.cancel()

    async def ended(self) -> None:
        """Return when the task has ended."""
        await self._ended.wait()


@final
class Supervisor:
    """Runs background tasks until it is closed; the trouble of one never ends another.

    Runs once: it cannot be opened again after it was closed.

    Args:
        emit: receives `TaskCrashed`.
        patience: seconds that tasks have, once cancelled, to end.
    """

    def __init__(self, emit: Emit, *, patience: float = 10.0) -> None:
        self._emit = emit
        self._patience = patience
        self._group: anyio.abc.TaskGroup | None = None
        self._owner: asyncio.Task[None] | None = None
        self._opened = anyio.Event()
        self._closing = anyio.Event()
        self._jobs: set[Job] = set()

    async def open(self) -> None:
        """Begin, unless somebody has; returns when `start` can be used. May be cancelled."""
        if self._owner is None:
            # The one task here that no block owns: it is the owner. `aclose` waits for it.
            self._owner = asyncio.get_running_loop().create_task(
                self._own(), name="meshkit supervisor"
            )
        await self._opened.wait()

    async def _own(self) -> None:
        async with anyio.create_task_group() as group:
            self._group = group
            self._opened.set()
            await self._closing.wait()
            group.cancel_scope.cancel()

    def start(
        self,
        name: str,
        function: Callable[[*Ts], Awaitable[object]],
        *args: *Ts,
        keep: bool = False,
    ) -> Job:
        """Run `function(*args)` as a task.

        With `keep` it is a loop that has to live: after an error that nobody expected it is
        started again. Either way the error is emitted as `TaskCrashed` and goes no further.

        Raises:
            RuntimeError: not opened yet, or closed.
        """
        if self._group is None or self._closing.is_set():
            raise RuntimeError("the supervisor is not open")
        job = Job(name)
        self._jobs.add(job)
        self._group.start_soon(self._run, job, function, args, keep, name=f"meshkit {name}")
        return job

    async def _run(
        self,
        job: Job,
        function: Callable[[*Ts], Awaitable[object]],
        args: tuple[*Ts],
        keep: bool,
    ) -> None:
        delays = _RESTART.delays(random.Random())
        try:
            with job._scope:  # noqa: SLF001 -- the two are one thing
                while True:
                    try:
                        await function(*args)
                        return
                    except Exception as error:  # noqa: BLE001 -- a bug must not take the house down
                        self._emit(TaskCrashed(job.name, error))
                        if not keep:
                            return
                    await anyio.sleep(next(delays))
        finally:
            self._jobs.discard(job)
            job._ended.set()  # noqa: SLF001

    async def aclose(self) -> None:
        """Cancel all tasks and return when they have ended; bounded, and twice is fine."""
        if self._owner is None:
            return
        self._closing.set()
        # Not cut short by the canceller of our caller, or clean-ups would be left behind.
        with anyio.CancelScope(shield=True):
            _, late = await asyncio.wait([self._owner], timeout=self._patience)
        if late:
            names = ", ".join(sorted(job.name for job in self._jobs))
            error = TimeoutError(f"not ended {self._patience:g} s after it was cancelled: {names}")
            self._emit(TaskCrashed("supervisor", error))
