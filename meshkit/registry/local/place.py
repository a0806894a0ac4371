"""Where the registry of a user on this machine is, and whether it may be trusted."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import Final

from meshkit.errors import ConfigError
from meshkit.registry.owner import stranger

__all__ = ["default_path", "prepare"]

_ADVICE: Final = (
    "the local registry must be in a directory of your own, give one as local:///path/registry.db"
)


def default_path() -> Path:
    """`$XDG_RUNTIME_DIR/meshkit/registry.db`, or in the directory for temporary files."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and Path(runtime).is_dir():
        return Path(runtime, "meshkit", "registry.db")
    return Path(tempfile.gettempdir(), f"meshkit-{os.getuid()}", "registry.db")


def prepare(path: Path, locks: Path) -> None:
    """Make the directories for the file and its locks if need be, for this user alone.

    Raises:
        ConfigError: they cannot be made or written, or belong to another user, who could then
            send our calls anywhere.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        locks.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{error.filename}: {error.strerror}; {_ADVICE}") from error
    for used in (path.parent, locks, path):
        _refuse_foreign(used)
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise ConfigError(f"{path.parent} cannot be written; {_ADVICE}")


def _refuse_foreign(path: Path) -> None:
    # Never opened here: closing any descriptor of the file would drop the locks that SQLite holds
    # on it for another connection of this process (fcntl locks belong to processes).
    with contextlib.suppress(FileNotFoundError):
        if (owner := stranger(path)) is not None:
            raise ConfigError(f"{path} belongs to user {owner}; {_ADVICE}")
