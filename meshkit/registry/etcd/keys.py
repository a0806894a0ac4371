"""Keys are text here and bytes in etcd; a foreign key that is no UTF-8 survives the way through."""

from __future__ import annotations

__all__ = ["decode", "encode", "key_range", "single"]


def encode(key: str) -> bytes:
    """The bytes of a key."""
    return key.encode(errors="surrogateescape")


def decode(key: bytes) -> str:
    """The text of a key."""
    return key.decode(errors="surrogateescape")


def key_range(prefix: str) -> tuple[bytes, bytes]:
    """First key and end (exclusive) of all keys under `prefix`, in etcd's own notation.

    The end is the prefix with its last byte raised by one; bytes that cannot be raised go. A zero
    byte stands for "the first key" and "no end" (etcd API reference, RangeRequest).
    """
    start = encode(prefix)
    stem = start.rstrip(b"\xff")
    end = stem[:-1] + bytes([stem[-1] + 1]) if stem else b"\0"
    return start or b"\0", end


def single(key: str) -> tuple[bytes, bytes]:
    """The range of one key alone, in etcd's own notation."""
    return encode(key), b""
