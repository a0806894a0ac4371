"""The half of a mesh that opens and closes it, and gives frameworks what they want for that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self

from meshkit.lifetime import Lifetime

__all__ = ["Openable"]


class Openable:
    """Opened at its first use, closed by the end of a block or by `aclose`."""

    def __init__(self, lifetime: Lifetime) -> None:
        self._lifetime = lifetime

    async def aclose(self) -> None:
        """Drain the servers, close the channels, leave the registry; twice is fine.

        Raises:
            MeshClosedError: it is open on another event loop.
        """
        await self._lifetime.aclose()

    async def __aenter__(self) -> Self:
        try:
            await self._lifetime.open()
        except asyncio.CancelledError:  # nobody leaves what was not entered
            await self.aclose()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    @asynccontextmanager
    async def lifespan(self, _app: object, /) -> AsyncIterator[dict[str, Self]]:
        """For FastAPI and Starlette: `lifespan=mesh.lifespan`; also gives `request.state.mesh`."""
        async with self:
            yield {"mesh": self}

    async def cleanup_ctx(self, _app: object, /) -> AsyncIterator[None]:
        """For aiohttp: `app.cleanup_ctx.append(mesh.cleanup_ctx)`."""
        async with self:
            yield
