"""Credentials from files, looked at again while they are in use: certificates get renewed."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeAlias, final

import grpc

from meshkit.errors import RegistryAuthError
from meshkit.events import Emit, TlsReloaded, TlsReloadFailed
from meshkit.registry.etcd.options import EtcdOptions

__all__ = ["TlsFiles"]

Pems: TypeAlias = tuple[bytes | None, ...]

_EVERY: Final = 5.0
"""Seconds between two looks at the files."""


@final
class TlsFiles:
    """The files of `cacert`, `cert` and `key`; what was good last is used until better comes.

    Whoever renews certificates writes several files, one after the other, and we may look in
    between: only what can be read and goes together is taken.

    Args:
        options: with the paths.
        emit: told of files that were renewed, and of those that cannot be used.
        clock: the time in seconds.
    """

    def __init__(self, options: EtcdOptions, emit: Emit, clock: Callable[[], float]) -> None:
        self._options = options
        self._paths = (options.cacert, options.cert, options.key)
        self._emit = emit
        self._clock = clock
        self._looked_at = -_EVERY
        self._stamps: object = None
        self._good: Pems | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        """Credentials for a new connection.

        Raises:
            RegistryAuthError: the files cannot be used, and never could.
        """
        self._look()
        cacert, cert, key = self._good or (None, None, None)
        return grpc.ssl_channel_credentials(cacert, key, cert)

    def renewed(self) -> bool:
        """Whether connections made before this should be replaced; looks every few seconds."""
        if self._clock() - self._looked_at < _EVERY:
            return False
        before = self._good
        self._look()
        return before != self._good

    def _look(self) -> None:
        self._looked_at = self._clock()
        stamps = [_stamp(path) for path in self._paths if path is not None]
        if self._good is not None and stamps == self._stamps:
            return
        try:
            pems = self._read()
        except (OSError, ValueError) as error:
            if self._good is None:
                raise RegistryAuthError(f"TLS files for etcd cannot be used: {error}") from error
            self._emit(TlsReloadFailed(self._options.url, str(error)))
        else:
            if self._good not in (None, pems):
                self._emit(TlsReloaded(self._options.url))
            self._good = pems
        self._stamps = stamps

    def _read(self) -> Pems:
        cacert, cert, key = self._paths
        pems = tuple(Path(path).read_bytes() if path else None for path in self._paths)
        check = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            if cacert is not None:
                check.load_verify_locations(cacert)
            if cert is not None:
                check.load_cert_chain(cert, key, password=_no_password)
        except ssl.SSLError as error:
            names = ", ".join(path for path in self._paths if path)
            raise ValueError(f"{error} (one of {names})") from error
        return pems


def _stamp(path: str) -> tuple[int, int, int] | None:
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _no_password() -> str:
    """For a key that is encrypted: nobody is there to be asked, and gRPC takes none."""
    return ""
