"""Metadata of a call, checked before the call begins.

Core finds illegal metadata only when it sends it, and grpc.aio then leaves the call open for ever.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import grpc.aio

__all__ = ["checked", "counted"]

_PREVIOUS_ATTEMPTS: Final = "grpc-previous-rpc-attempts"

_KEY: Final = re.compile(r"[0-9a-z_.-]+")
_PRINTABLE: Final = re.compile(rb"[ -~]*")


def checked(metadata: Any) -> grpc.aio.Metadata | None:
    """`metadata` as grpc.aio has it.

    Raises:
        ValueError: it is not made of pairs, or a pair cannot be sent.
    """
    if metadata is None:
        return None
    if isinstance(metadata, Mapping):
        metadata = list(metadata)  # grpc.aio refuses it as well: a key may come more than once
    pairs = tuple(metadata)
    for pair in pairs:
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise ValueError(f"metadata must be (key, value) pairs, got a {type(pair).__name__}")
        if not _is_legal(*pair):  # the value stays out of the error: tokens travel here
            raise ValueError(
                f"metadata {pair[0]!r} cannot be sent: keys are made of a-z 0-9 - _ . and values "
                "are printable ASCII, or bytes if the key ends with -bin"
            )
    return grpc.aio.Metadata(*pairs)


def counted(options: Mapping[str, Any] | None, attempts: int) -> Mapping[str, Any]:
    """The options of a call, for an attempt after so many others (gRFC A6)."""
    options = options or {}
    pairs = [pair for pair in options.get("metadata") or () if pair[0] != _PREVIOUS_ATTEMPTS]
    metadata = grpc.aio.Metadata(*pairs, (_PREVIOUS_ATTEMPTS, str(attempts)))
    return {**options, "metadata": metadata}


def _is_legal(key: Any, value: Any) -> bool:
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        return False
    if key.endswith("-bin"):
        return isinstance(value, bytes)
    text = value.encode() if isinstance(value, str) else value
    return isinstance(text, bytes) and _PRINTABLE.fullmatch(text) is not None
