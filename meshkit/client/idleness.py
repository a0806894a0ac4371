"""Doing without connections while nobody calls."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import final

__all__ = ["Idleness"]


@final
class Idleness:
    """Whether a channel has no connections, because it needs none.

    With a timeout it begins idle and is so again when there was no call for that long; found out
    between one and two times that, so that a call has nothing to do for it.

    Args:
        timeout: seconds; None: never idle; `math.inf`: only before the first call.
        activity: how many calls there were so far; None while there is any.
        changed: told after each change, to connect or to let go.
    """

    def __init__(
        self,
        timeout: float | None,
        *,
        activity: Callable[[], int | None],
        changed: Callable[[], object],
    ) -> None:
        self.is_idle = timeout is not None
        self._timeout = math.inf if timeout is None else timeout
        self._activity = activity
        self._changed = changed
        self._seen: int | None = None
        self._timer: asyncio.TimerHandle | None = None

    def wake(self) -> None:
        """There is a call, or somebody who wants connections: have them."""
        if self.is_idle:
            self.is_idle = False
            self._seen = None  # nothing yet: the call is not on its way
            self._look_later()
            self._changed()

    def stop(self) -> None:
        """Change nothing any more."""
        self.is_idle = False
        if self._timer is not None:
            self._timer.cancel()
        self._timeout = math.inf

    def _look_later(self) -> None:
        if self._timeout < math.inf:
            self._timer = asyncio.get_running_loop().call_later(self._timeout, self._look)

    def _look(self) -> None:
        """Let go of the connections, if no call has begun since the last look and none is there."""
        before, self._seen = self._seen, self._activity()
        if self._seen is None or self._seen != before:
            self._look_later()
        else:
            self.is_idle = True
            self._changed()
