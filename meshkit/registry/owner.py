"""Whose a file is: what strangers can write could send our calls anywhere."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["stranger"]


def stranger(path: Path) -> int | None:
    """The user to whom `path`, or the link there, belongs if that is neither us nor root.

    Raises:
        OSError: it cannot be told; `FileNotFoundError` if there is no such file.
    """
    if not hasattr(os, "getuid"):  # Windows, where directories of a user are that user's
        return None
    strangers = {path.stat().st_uid, path.lstat().st_uid} - _trusted()
    return strangers.pop() if strangers else None


def _trusted() -> set[int]:
    return {os.getuid(), 0}  # /tmp is root's, and root could do anything anyway
