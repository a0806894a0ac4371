"""What a client knows about how busy one endpoint is: the load that pickers compare."""

from __future__ import annotations

__all__ = ["PendingCalls"]


class PendingCalls:
    """Counts the calls of this client that one endpoint has not answered yet.

    The simplest load that works: it needs no clock, and a slow endpoint shows at once because
    its calls stay pending. A node may be one of these, so that pickers read `pending` directly.

    Attributes:
        pending: calls under way now.
        finished: calls that ended, failed ones included.
        failed: calls that ended badly.
    """

    __slots__ = ("failed", "finished", "pending")

    def __init__(self) -> None:
        self.pending = 0
        self.finished = 0
        self.failed = 0

    @property
    def started(self) -> int:
        """All calls so far, those under way included."""
        return self.finished + self.pending

    def start(self) -> None:
        """Count a call that begins; `finish` must follow on every path."""
        self.pending += 1

    def finish(self, ok: bool) -> None:
        """Count the end of a call that was counted by `start`."""
        if self.pending == 0:  # a call counted twice would make this endpoint look idle for ever
            raise RuntimeError("finish() without start()")
        self.pending -= 1
        self.finished += 1
        if not ok:
            self.failed += 1

    def __repr__(self) -> str:
        return f"<PendingCalls: {self.pending} of {self.started} pending, {self.failed} failed>"
