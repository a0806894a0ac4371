"""An event loop whose clock jumps to the next timer: an hour of test passes in milliseconds.

```python
@pytest.fixture
def anyio_backend():
    return "asyncio", {"loop_factory": VirtualClockLoop}
```

For tasks and timers, not for the wire: gRPC's own threads live in real time.
"""

from __future__ import annotations

import asyncio
import selectors
from typing import final

__all__ = ["VirtualClockLoop"]


@final
class VirtualClockLoop(asyncio.SelectorEventLoop):
    """An asyncio loop in virtual time, in seconds from 0.

    A deadlock, when every task waits and no timer is set, is a `RuntimeError` instead of a hang.
    """

    def __init__(self) -> None:
        self.now = 0.0
        super().__init__(_Jump(self))

    def time(self) -> float:
        """The virtual time, in seconds."""
        return self.now


class _Jump(selectors.SelectSelector):
    """Does not wait for a timer: moves the clock to it."""

    def __init__(self, loop: VirtualClockLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise RuntimeError("deadlock: every task waits and no timer is set")
            self._loop.now += max(timeout, 0.0)
        return ready
