"""The last known endpoints of each service on disk, for a client that starts without the registry.

One file for each service, and one for its config: a line of JSON that says what it is, and a line
`<key> <value>` for each entry, as they are written in the registry. Its time of modification is
when the registry last confirmed them. It is written aside and moved into place, so nobody ever
reads half of one.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from meshkit.registry.owner import stranger
from meshkit.registry.store import KeyValue

__all__ = ["Cache", "CacheError", "Recalled", "default_directory"]

_FORMAT: Final = 1
_SUFFIX: Final = ".endpoints"
_UNUSED: Final = 30 * 86_400.0  # seconds
_LIMIT: Final = 4 << 20  # bytes; 10,000 plain endpoints are 0.8 MB


class CacheError(Exception):
    """Raised when a file cannot be used; the text says which and why."""


@final
@dataclass(frozen=True, slots=True)
class Recalled:
    """What a file had: entries as the registry had them, `age` seconds ago."""

    items: tuple[KeyValue, ...]
    age: float


def default_directory(environ: Mapping[str, str]) -> Path:
    """`$XDG_CACHE_HOME/meshkit` or `~/.cache/meshkit`; without a home, one for temporary files."""
    if given := environ.get("XDG_CACHE_HOME"):
        return Path(given, "meshkit")
    if home := environ.get("HOME"):
        return Path(home, ".cache", "meshkit")
    user = f"-{os.getuid()}" if hasattr(os, "getuid") else ""
    return Path(tempfile.gettempdir(), f"meshkit{user}", "cache")


@final
class Cache:
    """Files of one registry in a directory that is this user's alone.

    Args:
        directory: where they are; made when the first is written.
        scope: which registry and layout, without secrets.
        wall: the time of day, in seconds.
    """

    def __init__(
        self, directory: Path, *, scope: str, wall: Callable[[], float] = time.time
    ) -> None:
        self._directory = directory
        self._scope = scope
        self._wall = wall
        self._pruned = False

    def path(self, prefix: str) -> Path:
        """The file for the keys that start with `prefix`."""
        name = hashlib.sha256(f"{self._scope}\n{prefix}".encode()).hexdigest()[:32]
        return self._directory / f"{name}{_SUFFIX}"

    def save(self, prefix: str, entries: Mapping[str, bytes]) -> None:
        """Keep `entries`, whose keys start with `prefix`, as confirmed now.

        Raises:
            CacheError: they cannot be written, or are too many.
        """
        path = self.path(prefix)
        text = self._header(prefix, len(entries)) + b"".join(
            f"{key.removeprefix(prefix)} ".encode() + value + b"\n"
            for key, value in entries.items()
        )
        if len(text) > _LIMIT:
            raise CacheError(f"{path}: {len(text)} bytes are more than {_LIMIT}")
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._refuse_stranger(self._directory)
            self._write(path, text)
            self._prune()
        except OSError as error:
            raise CacheError(f"{path}: {error.strerror}") from error

    def touch(self, prefix: str) -> bool:
        """What is kept for `prefix` was confirmed again, now; False if it is not there any more."""
        now = self._wall()
        try:
            os.utime(self.path(prefix), (now, now))
        except OSError:
            return False
        return True

    def forget(self, prefix: str) -> bool:
        """Let go of what is kept for `prefix`, if anything is; True.

        Raises:
            CacheError: it cannot be deleted.
        """
        path = self.path(prefix)
        try:
            path.unlink()
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:
            raise CacheError(f"{path}: {error.strerror}") from error
        return True

    def load(self, prefix: str) -> Recalled | None:
        """What was last kept for `prefix`; None if nothing was.

        Raises:
            CacheError: there is a file, and it cannot be used.
        """
        path = self.path(prefix)
        try:
            self._refuse_stranger(self._directory)
            self._refuse_stranger(path)
            with path.open("rb") as file:
                text = file.read(_LIMIT + 1)
                age = self._wall() - os.fstat(file.fileno()).st_mtime
        except FileNotFoundError:
            return None
        except OSError as error:
            raise CacheError(f"{path}: {error.strerror}") from error
        head, *lines = text.splitlines(keepends=True) or [b""]
        if head != self._header(prefix, len(lines)) or not text.endswith(b"\n"):
            raise CacheError(f"{path}: it is damaged, or of another version of meshkit")
        return Recalled(tuple(_item(prefix, line) for line in lines), max(0.0, age))

    def _header(self, prefix: str, count: int) -> bytes:
        about = {"meshkit": _FORMAT, "of": self._scope, "prefix": prefix, "endpoints": count}
        return json.dumps(about).encode() + b"\n"

    def _prune(self) -> None:
        """Delete the files of services that nobody has followed for a month; once is enough."""
        if self._pruned:
            return
        self._pruned = True
        for file in self._directory.glob(f"*{_SUFFIX}"):
            with suppress(FileNotFoundError):  # others do the same
                if file.stat().st_mtime < self._wall() - _UNUSED:
                    file.unlink()

    def _write(self, path: Path, text: bytes) -> None:
        number, name = tempfile.mkstemp(suffix=_SUFFIX, dir=self._directory)  # mode 0600
        aside = Path(name)
        try:
            with os.fdopen(number, "wb") as file:
                file.write(text)
                file.flush()
                os.fsync(number)
            os.utime(aside, (self._wall(), self._wall()))
            aside.replace(path)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise

    def _refuse_stranger(self, path: Path) -> None:
        if (owner := stranger(path)) is not None:
            raise CacheError(f"{path} belongs to user {owner}, who could send our calls anywhere")


def _item(prefix: str, line: bytes) -> KeyValue:
    name, _, value = line.rstrip(b"\n").partition(b" ")
    return KeyValue(prefix + name.decode(errors="replace"), value)
