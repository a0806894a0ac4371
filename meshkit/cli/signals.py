"""Commands that run until somebody stops them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import anyio

from meshkit.server.signals import Signals

__all__ = ["stop_signal"]


@contextmanager
def stop_signal() -> Iterator[anyio.Event]:
    """An event that the first SIGTERM or SIGINT sets, for the length of the block."""
    stopped = anyio.Event()
    signals = Signals(stopped.set)
    signals.take()
    try:
        yield stopped
    finally:
        signals.give_back()
