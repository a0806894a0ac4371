"""How to reach an etcd cluster."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import final

from meshkit.errors import ConfigError

__all__ = ["EtcdOptions", "split_endpoint"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class EtcdOptions:
    """Where an etcd cluster is, who we are to it, and how long we wait for it.

    Attributes:
        endpoints: `host:port` of its members; a host is a name, an IPv4 or a bracketed IPv6.
        username: with `password`, for clusters with authentication.
        password: never part of a repr, a log line or an error.
        tls: speak TLS; naming any of the files below says so, too.
        cacert: path of the PEM file to check the members against; None: gRPC's own roots.
        cert: path of our certificate chain (PEM), if the members ask for one.
        key: path of the private key (PEM) of `cert`.
        server_name: the name to expect in the members' certificates, if it is not the host.
        timeout: bound of every request, over all members that are tried, in seconds; up to four
            times as long when those before found nobody to answer in time.
        probe_interval: silence of the watches after which their member is asked for a sign of
            life, in seconds (+-20 %).
        probe_timeout: how long it then has to give one, in seconds.
        page: how many keys one request may list.
    """

    endpoints: tuple[str, ...] = ("127.0.0.1:2379",)
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool = False
    cacert: str | None = None
    cert: str | None = None
    key: str | None = None
    server_name: str | None = None
    timeout: float = 2.0
    probe_interval: float = 1.0
    probe_timeout: float = 1.0
    page: int = 1000

    def __post_init__(self) -> None:
        if not self.endpoints:
            raise ConfigError("an etcd cluster needs at least one endpoint, host:port")
        for endpoint in self.endpoints:
            split_endpoint(endpoint)
        if (self.cert is None) != (self.key is None):
            raise ConfigError("cert and key of an etcd client go together")
        if (self.username is None) != (self.password is None):
            raise ConfigError("username and password of an etcd client go together")
        if min(self.timeout, self.probe_interval, self.probe_timeout, self.page) <= 0:
            raise ConfigError("timeouts, intervals and the page size of etcd must be positive")

    @property
    def secure(self) -> bool:
        """Whether TLS is spoken."""
        return self.tls or self.cacert is not None or self.cert is not None

    @property
    def url(self) -> str:
        """The cluster as a URL, without user and password."""
        return f"{'etcds' if self.secure else 'etcd'}://{','.join(self.endpoints)}"


def split_endpoint(endpoint: str) -> tuple[str, int]:
    """Host (without brackets) and port of `host:port` or `[v6]:port`.

    Raises:
        ConfigError: it is neither.
    """
    host, _, port = endpoint.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    bare = host[1:-1] if bracketed else host
    if not bare or (":" in bare) != bracketed or set(bare) & set("/@[]"):
        raise ConfigError("an etcd endpoint is host:port or [v6]:port")
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ConfigError(f"an etcd endpoint ends in a port, 1..65535; that of {bare!r} does not")
    return bare, int(port)
