"""A clock that a test moves by hand."""

from __future__ import annotations

from typing import final

__all__ = ["FakeClock"]


@final
class FakeClock:
    """Called, it says the time in seconds; the time passes only by `advance`.

    After it was moved, `MemoryStore.tick` makes a registry on it see that.

    Args:
        now: the time at first, in seconds.
    """

    __slots__ = ("now",)

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        """The time, in seconds."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass.

        Raises:
            ValueError: the time would go back; a monotonic clock never does.
        """
        if seconds < 0:
            raise ValueError(f"time does not go back: {seconds} s")
        self.now += seconds
