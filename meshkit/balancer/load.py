"""What a client knows about how busy one endpoint is: the load that pickers compare."""

from __future__ import annotations

__all__ = ["Load"]


class Load:
    """The calls of this client at one endpoint: how many now, and how they went.

    A node may be one of these, so that pickers read `pending` directly.

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

    def finish(self, took: float, now: float) -> None:  # noqa: ARG002
        """Count the end of a call that was counted by `start`.

        Args:
            took: seconds from its start.
            now: the clock's seconds.
        """
        if self.pending == 0:  # a call counted twice would make this endpoint look idle for ever
            raise RuntimeError("finish() without start()")
        self.pending -= 1
        self.finished += 1

    def fail(self) -> None:
        """A call that has finished turns out to have ended badly.

        Said apart from `finish`: asking grpc.aio for a status costs as much as all the rest, and a
        call whose response is awaited tells a failure by itself.
        """
        self.failed += 1

    def __repr__(self) -> str:
        return f"<Load: {self.pending} of {self.started} pending, {self.failed} failed>"
