"""What the policies that go by a key share: the key, and a hash that all clients agree on."""

from __future__ import annotations

import random
import re
import sys
from array import array
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b, shake_128
from struct import Struct
from typing import Annotated, Any, ClassVar, Final, TypeAlias, final

from meshkit.balancer.policies.policy import N, Node, PickInfo
from meshkit.balancer.policies.table import Table
from meshkit.endpoint import Endpoint
from meshkit.fields import Format, Integer

__all__ = [
    "BalanceFactor",
    "HashKey",
    "HashPicker",
    "Key",
    "hash64",
    "key_reader",
    "numbers_of",
    "place_of",
]

KeyFunction: TypeAlias = Callable[[PickInfo], str | bytes | None]
HashKey: TypeAlias = str | KeyFunction

_BLANK: Final = blake2b(digest_size=8)
_number: Final = Struct("<Q").unpack
_HEADER: Final = re.compile(r"[0-9a-z_.-]*(?<!-bin)")


@final
@dataclass(frozen=True, slots=True)
class _Header(Format):
    """The name of a header; in code, a function of the call as well."""

    json_name: ClassVar = "requestHashHeader"  # as gRFC A76 has it

    def __str__(self) -> str:
        return "the name of a header in small letters (not a binary one), or in code a function"

    def _take(self, value: Any) -> Any:
        is_header = isinstance(value, str) and _HEADER.fullmatch(value)
        return value if is_header or callable(value) else None


Key: TypeAlias = Annotated[HashKey, _Header()]
BalanceFactor: TypeAlias = Annotated[int, Integer(100)]


def key_reader(key: HashKey) -> Callable[[PickInfo], bytes]:
    """A function that reads the key of a call; `b""` if it has none."""
    if isinstance(key, str):
        return partial(_header, key)
    return lambda info: _bytes(key(info) or b"")


def _header(name: str, info: PickInfo) -> bytes:
    found: str | bytes = b""
    for key, value in info.metadata:
        if key == name:
            found = b",".join((_bytes(found), _bytes(value))) if found else value
    return _bytes(found)


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode()


def hash64(key: bytes) -> int:
    """64 bits, the same in every process, on every machine, in every version of Python.

    Of the standard library's hashes that deserve the name BLAKE2b takes the shortest time for a
    short key, about 0.4 us; xxHash, which gRPC uses, would take longer in Python.
    """
    state = _BLANK.copy()  # takes half as long as to make one
    state.update(key)
    [number] = _number(state.digest())
    return number  # type: ignore[no-any-return]


def numbers_of(key: str, count: int) -> array[int]:
    """`count` numbers of 64 bits from one hash; fewer are the beginning of more."""
    numbers = array("Q", shake_128(key.encode()).digest(8 * count))
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def place_of(endpoint: Endpoint) -> str:
    """What an endpoint is hashed by: `hash_key` of its metadata, else its address (gRFC A76)."""
    return endpoint.metadata.get("hash_key") or endpoint.address


@final
class HashPicker:
    """Picks the owner of the key's hash; the owner of a random hash for a call without a key.

    Args:
        table: who owns what.
        key: where to find the key.
        rng: the die.
    """

    __slots__ = ("_owner", "_random", "_table", "key_of")

    def __init__(self, table: Table, key: HashKey, rng: random.Random) -> None:
        self._table = table
        self._owner = table.owner
        self.key_of = key_reader(key)
        self._random = rng.getrandbits

    def follow(self, added: Collection[Node], removed: Collection[Node]) -> None:
        """Take note of who comes and goes."""
        self._table.follow(added, removed)

    def pick(self, ready: Sequence[N], info: PickInfo) -> N:  # noqa: ARG002 -- told by `follow`
        """Choose the node for the call's key."""
        key = self.key_of(info)
        place = hash64(key) if key else self._random(64)
        return self._owner(place)  # type: ignore[no-any-return]
