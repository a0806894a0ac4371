"""Leases as locked files: the kernel takes the lock away when its process dies, however it dies.

A lock file is made, probed for removal and removed only inside a write transaction of the database,
and a lease is probed only when its row is committed. So nobody ever sees a file made but not yet
locked.
"""

from __future__ import annotations

import os
import weakref
from pathlib import Path
from typing import Final, final

__all__ = ["LeaseLocks"]

_ALL: Final[weakref.WeakSet[LeaseLocks]] = weakref.WeakSet()


@final
class LeaseLocks:
    """The lock files of all leases, and the locks on those that are ours."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._ours: dict[int, int] = {}  # lease -> descriptor; Python closes them on exec
        _ALL.add(self)

    def take(self, lease: int) -> None:
        """Make the file of a new lease and lock it for as long as this process lives."""
        descriptor = os.open(self._path(lease), os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        self._ours[lease] = descriptor
        _lock(descriptor, shared=False)

    def is_free(self, lease: int) -> bool:
        """Whether nobody holds the lock, or the file is gone."""
        return _is_free(self._path(lease))

    def drop(self, lease: int) -> None:
        """Remove the file of a lease that ended, and let go of it if it is ours."""
        self._path(lease).unlink(missing_ok=True)
        if (descriptor := self._ours.pop(lease, None)) is not None:
            os.close(descriptor)

    def sweep(self) -> None:
        """Remove all files that nobody holds."""
        for path in self._directory.iterdir():
            if _is_free(path):
                path.unlink(missing_ok=True)

    def release(self) -> None:
        """Let go of all locks of ours: whoever looks next ends those leases."""
        while self._ours:
            os.close(self._ours.popitem()[1])

    def _path(self, lease: int) -> Path:
        return self._directory / f"{lease:x}"


def _is_free(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return True
    try:
        # Shared: two that look at the same time must not take each other for the owner.
        return _lock(descriptor, shared=True)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, *, shared: bool) -> bool:
    import fcntl  # not on Windows, where this module must still import

    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _release_inherited() -> None:
    for locks in tuple(_ALL):
        locks.release()


# A forked child has the descriptors, and with them the locks, until it ends: our death would go
# unnoticed as long as it lives. Closing its copies leaves ours locked.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_release_inherited)
