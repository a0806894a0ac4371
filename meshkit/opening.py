"""What is opened by `await` belongs to its maker, by `async with` to the block."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Generic, TypeVar, final

__all__ = ["Opening"]

T = TypeVar("T")


@final
class Opening(Generic[T]):
    """`await opening` keeps it until its maker closes, `async with` until the block ends."""

    def __init__(
        self,
        keep: Callable[[], Awaitable[T]],
        borrow: Callable[[], AbstractAsyncContextManager[T]],
    ) -> None:
        self._keep = keep
        self._borrow = borrow
        self._borrowed: AbstractAsyncContextManager[T] | None = None

    def __await__(self) -> Generator[Any, None, T]:
        return self._keep().__await__()

    async def __aenter__(self) -> T:
        self._borrowed = self._borrow()
        return await self._borrowed.__aenter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._borrowed is not None:
            await self._borrowed.__aexit__(kind, error, traceback)
