"""A sorted mapping whose changed copies share what did not change."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import chain
from operator import itemgetter
from typing import Final, TypeAlias, TypeVar, final

__all__ = ["SortedMap"]

V = TypeVar("V")
Chunk: TypeAlias = dict[str, V]

_CHUNK: Final = 64
"""A change copies up to twice as many items, and a reference for every so many of all items."""


@final
class SortedMap(Mapping[str, V]):
    """An immutable mapping in order of its keys.

    `with_changes` and `differences` cost about as much as there are changes, whatever the size:
    the items are kept in chunks, and two versions have most of those in common.
    """

    __slots__ = ("_chunks",)

    def __init__(self, items: Mapping[str, V] | None = None) -> None:
        # Each is in order, none is empty, none is changed any more.
        self._chunks: tuple[Chunk[V], ...] = tuple(_cut((items or {}).items()))

    def __getitem__(self, key: str) -> V:
        if not self._chunks:
            raise KeyError(key)
        return self._chunks[self._chunk_of(key)][key]

    def __iter__(self) -> Iterator[str]:
        return chain.from_iterable(self._chunks)

    def __len__(self) -> int:
        return sum(map(len, self._chunks))

    def __repr__(self) -> str:
        return f"SortedMap({dict(self)!r})"

    def with_changes(self, put: Mapping[str, V], drop: Collection[str] = ()) -> SortedMap[V]:
        """A copy without the keys of `drop`, and then with all of `put`."""
        gone = set(drop)
        new: dict[int, dict[str, V]] = {self._chunk_of(key): {} for key in drop}
        for key, value in put.items():
            new.setdefault(self._chunk_of(key), {})[key] = value
        if not new:
            return self
        chunks = list(self._chunks) or [{}]
        for index in sorted(new, reverse=True):  # from the end, so that the others keep their place
            kept = {key: value for key, value in chunks[index].items() if key not in gone}
            chunks[index : index + 1] = _cut((kept | new[index]).items())
        made: SortedMap[V] = SortedMap()
        made._chunks = tuple(chunks)
        return made

    def differences(self, other: SortedMap[V]) -> tuple[dict[str, V], dict[str, V]]:
        """Items of this map and of `other`, in order, without most of those they share."""
        return _unlike(self._chunks, other._chunks), _unlike(other._chunks, self._chunks)

    def _chunk_of(self, key: str) -> int:
        return max(0, bisect_right(self._chunks, key, key=_first) - 1)


def _unlike(chunks: Iterable[Chunk[V]], others: Iterable[Chunk[V]]) -> dict[str, V]:
    """The items of those of `chunks` that are none of `others`."""
    known = set(map(id, others))
    items = (chunk.items() for chunk in chunks if id(chunk) not in known)
    return dict(chain.from_iterable(items))


def _first(chunk: Chunk[V]) -> str:
    return next(iter(chunk))


def _cut(items: Iterable[tuple[str, V]]) -> Iterator[Chunk[V]]:
    """Chunks of `items`: one, unless that became too large."""
    ordered = sorted(items, key=itemgetter(0))
    size = len(ordered) if len(ordered) <= 2 * _CHUNK else _CHUNK
    for start in range(0, len(ordered), size or 1):
        yield dict(ordered[start : start + size])
