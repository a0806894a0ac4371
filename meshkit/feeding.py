"""The half of a mesh that tells other programs what stands in the registry."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from meshkit.errors import ConfigError
from meshkit.openable import Openable
from meshkit.xds import DEFAULT_BIND, ControlPlaneOptions, TlsFiles

if TYPE_CHECKING:
    from meshkit.dns import Responder
    from meshkit.xds.control_plane import ControlPlane

__all__ = ["Feeding"]


class Feeding(Openable):
    """Feeds proxies and programs that are no clients of a mesh, for the length of a block."""

    @asynccontextmanager
    async def dns(
        self,
        *,
        zone: str = "mesh.local",
        host: str = "127.0.0.1",
        port: int = 0,
        ttl: int = 1,
        patience: float = 2.0,
    ) -> AsyncIterator[Responder]:
        """Answer DNS queries for the services, as `meshkit dns serve` does.

        Args:
            zone: the domain below which they are: `_hello_service._tcp.mesh.local`.
            host: the IP address to listen on.
            port: for UDP and TCP; 0 lets the system choose, `responder.port` says.
            ttl: seconds for which others may remember an answer.
            patience: seconds for which an answer is held while the registry has not told us yet.

        Raises:
            ConfigError: (on entering) an argument cannot be used, or dnspython is not installed.
        """
        try:
            from meshkit.dns import Responder
        except ImportError as error:
            raise ConfigError("DNS needs an extra: pip install 'meshkit[dns]'") from error
        running = await self._lifetime.open()
        async with Responder(
            running.registry,
            zone=zone,
            host=host,
            port=port,
            ttl=ttl,
            patience=patience,
            emit=running.emit,
        ) as responder:
            yield responder

    @asynccontextmanager
    async def xds(
        self, bind: str = DEFAULT_BIND, /, *, tls: TlsFiles | None = None
    ) -> AsyncIterator[ControlPlane]:
        """Be a control plane for gRPC's xDS clients and Envoy, as `meshkit xds serve` is.

        Args:
            bind: `host:port` to listen on; port 0 lets the system choose, `plane.port` says.
            tls: its certificate and key; with a CA, clients need a certificate that it signed.
                None: plain text.

        Raises:
            ConfigError: (on entering) an argument or a file cannot be used, or xds-protos is not
                installed.
        """
        running = await self._lifetime.open()
        async with running.xds(ControlPlaneOptions(bind=bind, tls=tls)) as plane:
            yield plane
