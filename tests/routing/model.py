"""What a model is: a way from a client to the servers, which is to follow the routes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from tests.routing.table import Asked

__all__ = ["Caller", "Model"]


class Caller(Protocol):
    """Calls one service by one model."""

    async def answers(self, asked: Asked) -> Counter[str]:
        """Make the call as often as `asked.times` says.

        Returns:
            the names of the servers that answered, and the names of the status codes of calls that
            failed, each with how often.
        """


class Model(Protocol):
    """One of the ways.

    Attributes:
        lacks: what it cannot do, by the words of `Case.needs`, and why.
    """

    lacks: Mapping[str, str]

    def calling(self, service: str) -> AbstractAsyncContextManager[Caller]:
        """A caller of `service`, which is one of the table; for a block."""
