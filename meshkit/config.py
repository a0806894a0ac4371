"""Where a mesh's settings come from: keyword > URL > environment > default, per setting.

| setting | keyword | URL | environment | default |
|---|---|---|---|---|
| registry | first argument | | `MESHKIT_REGISTRY` | `local://` |
| namespace | `namespace=` | `?namespace=` | `MESHKIT_NAMESPACE` | `default` |
| ttl, seconds | `ttl=` | `?ttl=` | `MESHKIT_TTL` | 15 |
| layout | `layout=` | `?layout=` | `MESHKIT_LAYOUT` | `meshkit` |
| advertise | `advertise=` | | `MESHKIT_ADVERTISE` | found out |
| etcd user | | `user:password@` | `MESHKIT_ETCD_USER` | none |
| etcd password | | `user:password@` | `MESHKIT_ETCD_PASSWORD`, `..._PASSWORD_FILE` | none |
| etcd CA | | `?cacert=` | `MESHKIT_ETCD_CACERT` | gRPC's own roots |
| etcd certificate | | `?cert=`, `?key=` | `MESHKIT_ETCD_CERT`, `MESHKIT_ETCD_KEY` | none |
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import final

from meshkit.errors import ConfigError
from meshkit.registry.registry import DEFAULT_TTL
from meshkit.registry.url import RegistryURL

__all__ = ["Settings"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of a mesh, and where each came from.

    Attributes:
        registry: the registry's URL, completed with what other sources say of layout,
            credentials and certificates.
        namespace: keeps several meshes apart in one registry.
        ttl: seconds after which a dead server's registration ends.
        advertise: the address that servers announce; None: found out.
        sources: setting -> `keyword`, `URL`, the variable's name, or `default`.
    """

    registry: RegistryURL
    namespace: str
    ttl: float
    advertise: str | None
    sources: Mapping[str, str]

    @property
    def is_implicit(self) -> bool:
        """Whether nobody has said which registry to use."""
        return self.sources["registry"] == "default"

    @classmethod
    def resolve(
        cls,
        registry: str | None,
        *,
        namespace: str | None,
        ttl: float | None,
        layout: str | None,
        advertise: str | None,
        environ: Mapping[str, str],
    ) -> Settings:
        """Find each setting's winner.

        Raises:
            ConfigError: the winner cannot be used; the text says where it came from.
        """
        found = _Finder(environ)
        text = found.first("registry", registry, None, "local://")
        assert text is not None  # noqa: S101 -- it has a default
        try:
            url = RegistryURL.parse(text)
        except ConfigError as error:
            raise ConfigError(f"{error} (registry from {found.sources['registry']})") from None
        if found.sources["registry"] == "default" and "KUBERNETES_SERVICE_HOST" in environ:
            raise ConfigError(
                "inside Kubernetes the registry must be named: the default, local://, is this "
                "one pod's own. Set MESHKIT_REGISTRY=etcd://host:2379 (or local://, if you mean it)"
            )
        of_url = url.params.get
        return cls(
            registry=_complete(url, found, layout),
            namespace=found.first("namespace", namespace, of_url("namespace"), "default") or "",
            ttl=found.seconds("ttl", ttl, of_url("ttl"), DEFAULT_TTL),
            advertise=found.first("advertise", advertise, None, None),
            sources=found.sources,
        )


def _complete(url: RegistryURL, found: _Finder, layout: str | None) -> RegistryURL:
    """`url` with the parameters and credentials that it leaves to other sources."""
    if url.scheme == "static":
        return url
    params = dict(url.params)
    if (given := found.first("layout", layout, url.params.get("layout"), None)) is not None:
        params["layout"] = given
    if url.scheme not in {"etcd", "etcds"}:
        return replace(url, params=MappingProxyType(params))
    for name in ("cacert", "cert", "key"):
        if (path := found.first(f"etcd_{name}", None, url.params.get(name), None)) is not None:
            params[name] = path
    return replace(
        url,
        username=found.first("etcd_user", None, url.username, None),
        password=found.secret("etcd_password", url.password),
        params=MappingProxyType(params),
    )


class _Finder:
    """Finds settings and remembers where each was found."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.sources: dict[str, str] = {}

    def first(
        self, name: str, keyword: str | None, of_url: str | None, default: str | None
    ) -> str | None:
        """The first of keyword, URL, environment, default that was given."""
        variable = f"MESHKIT_{name.upper()}"
        candidates = (
            ("keyword", keyword),
            ("URL", of_url),
            (variable, self._environ.get(variable) or None),  # empty counts as unset
            ("default", default),
        )
        for source, value in candidates:
            if value is not None:
                self.sources[name] = source
                return value
        return None

    def seconds(
        self, name: str, keyword: float | None, of_url: str | None, default: float
    ) -> float:
        """The same for a number of seconds above 0."""
        text = self.first(name, None if keyword is None else str(keyword), of_url, str(default))
        try:
            value = float(text or "")
        except ValueError:
            value = math.nan
        if not 0 < value < math.inf:
            raise ConfigError(
                f"{name} is seconds, a number above 0, got {text!r} from {self.sources[name]}"
            )
        return value

    def secret(self, name: str, of_url: str | None) -> str | None:
        """The same for a secret, which the environment may keep in a file (`..._FILE`)."""
        value = self.first(name, None, of_url, None)
        variable = f"MESHKIT_{name.upper()}_FILE"
        path = self._environ.get(variable)
        if value is None and path:
            try:
                value = Path(path).read_text(encoding="utf-8").rstrip("\r\n")
            except (OSError, UnicodeDecodeError) as error:
                raise ConfigError(f"cannot read the file that {variable} names: {error}") from None
            self.sources[name] = variable
        return value
