"""The connections of one channel: made, watched, and parted with when their last call has ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, final

import anyio

from meshkit.balancer import InFlight, Readiness
from meshkit.client.connection import ConnectionOptions
from meshkit.client.subchannel import Subchannel
from meshkit.endpoint import Endpoint
from meshkit.tasks import Job, Supervisor

__all__ = ["Connections"]

_LAST_WORD: Final = 0.05  # seconds


@final
class Connections:
    """Those that calls may be put on, each with the task that watches it.

    Args:
        changed: told whenever the readiness of one is another one.
        met: told who answers instead of an endpoint.

    Attributes:
        options: how to connect from now on.
        retiring: those that get no calls any more, and wait for the end of those they have.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        options: ConnectionOptions,
        *,
        changed: Callable[[Subchannel, Readiness], None],
        met: Callable[[Subchannel, str], None],
    ) -> None:
        self._supervisor = supervisor
        self.options = options
        self._changed = changed
        self._met = met
        self._jobs: dict[Subchannel, Job] = {}
        self.retiring: dict[Subchannel, Job] = {}

    def __iter__(self) -> Iterator[Subchannel]:
        return iter(self._jobs)

    def __contains__(self, node: Subchannel) -> bool:
        return node in self._jobs

    def make(self, endpoint: Endpoint, in_flight: InFlight) -> Subchannel:
        """A connection to `endpoint`, watched from now on."""
        node = Subchannel(endpoint, self.options, in_flight)
        self._jobs[node] = self._supervisor.start(
            f"connection {endpoint.address}", node.watch, self._changed, self._met, keep=True
        )
        return node

    def retire(self, node: Subchannel) -> None:
        """Close a connection when its last call has ended."""
        watching = self.retiring[node] = self._jobs.pop(node)
        name = f"retire {node.endpoint.address}"
        self._supervisor.start(name, self._part_with, node, watching, None)

    async def _part_with(self, node: Subchannel, watching: Job, grace: float | None) -> None:
        try:
            await node.close(grace)
            # Core's last word to the watch would come after we said that all is closed, maybe
            # when the loop is. It waits while anybody holds a call of this connection.
            with anyio.move_on_after(_LAST_WORD):
                await watching.ended()
        finally:
            watching.cancel()
            self.retiring.pop(node, None)

    def release(self) -> dict[Subchannel, Job]:
        """Give all away, to be closed by `close`; none is one of these any more."""
        leaving = self._jobs | self.retiring
        self._jobs.clear()
        return leaving

    async def close(self, leaving: dict[Subchannel, Job], grace: float) -> None:
        """Close what `release` gave, after `grace` seconds at most."""
        async with anyio.create_task_group() as closing:
            for node, watching in leaving.items():
                closing.start_soon(self._part_with, node, watching, grace)
