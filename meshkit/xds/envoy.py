"""What an Envoy tells the control plane of itself, in the metadata of its node.

An Envoy asks for "all listeners" and "all clusters"; only its bootstrap knows which ports it is to
open and which services it is for, so that says it: under `meshkit`, as JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self, final

from meshkit.errors import ConfigError
from meshkit.xds.address import host_and_port

__all__ = ["METADATA_KEY", "EnvoyScope", "Port", "TlsFiles"]

METADATA_KEY: Final = "meshkit"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """PEM files on the machine of whoever uses them.

    Attributes:
        cert: the certificate, with its chain.
        key: its private key.
        ca: who must have signed the other side's certificate; empty: for a server, clients need
            none; for a client, the system's roots.
    """

    cert: str = ""
    key: str = ""
    ca: str = ""

    def __post_init__(self) -> None:
        if bool(self.cert) != bool(self.key):
            raise ConfigError("a certificate and its key are given together")

    @classmethod
    def from_json(cls, document: object) -> Self:
        """Read what `to_json` wrote.

        Raises:
            ConfigError: it cannot be used.
        """
        return cls(**_texts(document, "tls", ("cert", "key", "ca")))

    def to_json(self) -> dict[str, str]:
        """The files that are given."""
        given = {"cert": self.cert, "key": self.key, "ca": self.ca}
        return {name: path for name, path in given.items() if path}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """A port that an Envoy opens, and where the calls go that come in there.

    Attributes:
        address: `host:port` to listen on; the host is an IP.
        service: that all calls are for; empty: each call goes to the service that its
            `:authority` names.
        tls: with which it serves TLS; None: plain text.
    """

    address: str
    service: str = ""
    tls: TlsFiles | None = None

    def __post_init__(self) -> None:
        host_and_port(self.address)
        if self.tls is not None and not self.tls.cert:
            raise ConfigError(f"TLS on {self.address} needs a certificate and its key")

    @classmethod
    def from_json(cls, document: object) -> Self:
        """Read what `to_json` wrote.

        Raises:
            ConfigError: it cannot be used.
        """
        if not isinstance(document, Mapping):
            raise ConfigError(f"a port must be an object with an address, got {document!r}")
        texts = {name: text for name, text in document.items() if name != "tls"}
        tls = document.get("tls")
        return cls(
            **{"address": "", **_texts(texts, "a port", ("address", "service"))},
            tls=None if tls is None else TlsFiles.from_json(tls),
        )

    def to_json(self) -> dict[str, Any]:
        """The fields that are given."""
        found: dict[str, Any] = {"address": self.address}
        if self.service:
            found["service"] = self.service
        if self.tls is not None:
            found["tls"] = self.tls.to_json()
        return found


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class EnvoyScope:
    """What an Envoy is for.

    Attributes:
        ports: that it opens.
        services: that it can reach; None: all there are.
    """

    ports: tuple[Port, ...] = ()
    services: tuple[str, ...] | None = None

    @classmethod
    def from_json(cls, document: object) -> Self:
        """Read what `to_json` wrote.

        Raises:
            ConfigError: it cannot be used.
        """
        if not isinstance(document, Mapping) or not document.keys() <= {"ports", "services"}:
            raise ConfigError(
                f"metadata {METADATA_KEY!r} must be an object with ports and services, "
                f"got {document!r}"
            )
        ports, services = document.get("ports", []), document.get("services")
        if not isinstance(ports, list):
            raise ConfigError(f"ports must be a list, got {ports!r}")
        if services is not None and not (
            isinstance(services, list) and all(isinstance(name, str) for name in services)
        ):
            raise ConfigError(f"services must be a list of names, got {services!r}")
        return cls(
            ports=tuple(map(Port.from_json, ports)),
            services=None if services is None else tuple(sorted(set(services))),
        )

    def to_json(self) -> dict[str, Any]:
        """As it stands in the node's metadata."""
        found: dict[str, Any] = {"ports": [port.to_json() for port in self.ports]}
        if self.services is not None:
            found["services"] = list(self.services)
        return found


def _texts(document: object, what: str, known: tuple[str, ...]) -> dict[str, str]:
    """`document`, if it has only texts, and only under `known` names."""
    if (
        isinstance(document, Mapping)
        and document.keys() <= set(known)
        and all(isinstance(text, str) for text in document.values())
    ):
        return dict(document)
    raise ConfigError(
        f"{what} must be an object with the texts {', '.join(known)}, got {document!r}"
    )
