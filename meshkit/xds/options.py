"""How a control plane is set up."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import grpc

from meshkit.errors import ConfigError
from meshkit.xds.envoy import TlsFiles

__all__ = ["DEFAULT_BIND", "ControlPlaneOptions"]

DEFAULT_BIND: Final = "127.0.0.1:18000"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ControlPlaneOptions:
    """How a control plane is set up.

    Attributes:
        bind: `host:port` to listen on; port 0 lets the system choose.
        tls: its certificate and key; with a CA, clients need a certificate that it signed. None:
            plain text, for the loopback and networks that are trusted.
        grace: seconds that streams have to end when it stops.
    """

    bind: str = DEFAULT_BIND
    tls: TlsFiles | None = None
    grace: float = 0.5

    def __post_init__(self) -> None:
        host, colon, port = self.bind.rpartition(":")
        if not (host and colon and port.isdecimal() and int(port) < 1 << 16):
            raise ConfigError(f"bind must be host:port, got {self.bind!r}")
        if self.tls is not None and not self.tls.cert:
            raise ConfigError("a control plane with TLS needs a certificate and its key")
        if not self.grace >= 0:
            raise ConfigError(f"grace must be 0 or more, got {self.grace}")

    def credentials(self) -> Any:
        """What gRPC needs for TLS; None without.

        Raises:
            ConfigError: a file cannot be read.
        """
        if self.tls is None:
            return None
        ca = _read(self.tls.ca) if self.tls.ca else None
        return grpc.ssl_server_credentials(
            [(_read(self.tls.key), _read(self.tls.cert))],
            root_certificates=ca,
            require_client_auth=ca is not None,
        )


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"a TLS file of the control plane cannot be read: {error}") from None
