"""Where a mesh's settings come from: keyword > URL > environment > default, per setting.

| setting | keyword | URL | environment | default |
|---|---|---|---|---|
| registry | first argument | | `MESHKIT_REGISTRY` | `local://` |
| namespace | `namespace=` | `?namespace=` | `MESHKIT_NAMESPACE` | `default` |
| ttl, seconds | `ttl=` | `?ttl=` | `MESHKIT_TTL` | 15 |
| layout | `layout=` | `?layout=` | `MESHKIT_LAYOUT` | `meshkit` |
| advertise | `advertise=` | | `MESHKIT_ADVERTISE` | found out |
| zone | `zone=` | | `MESHKIT_ZONE` | none |
| cache | `cache=` | | `MESHKIT_CACHE` | on, see `registry.cache` |
| etcd user | | `user:password@` | `MESHKIT_ETCD_USER` | none |
| etcd password | | `user:password@` | `MESHKIT_ETCD_PASSWORD`, `..._PASSWORD_FILE` | none |
| etcd CA | | `?cacert=` | `MESHKIT_ETCD_CACERT` | gRPC's own roots |
| etcd certificate | | `?cert=`, `?key=` | `MESHKIT_ETCD_CERT`, `MESHKIT_ETCD_KEY` | none |
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Final, final

from meshkit.errors import ConfigError
from meshkit.registry.cache import default_directory
from meshkit.registry.layouts import DEFAULT_NAMESPACE
from meshkit.registry.opening import etcd_options, open_layout, open_others
from meshkit.registry.registry import DEFAULT_TTL
from meshkit.registry.url import RegistryURL
from meshkit.server import check_advertise

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
        zone: where this process runs, for its servers and its channels; "": not said.
        cache: the directory for the last known endpoints; None: they are not kept.
        sources: setting -> `keyword`, `URL`, the variable's name, or `default`.
    """

    registry: RegistryURL
    namespace: str
    ttl: float
    advertise: str | None
    zone: str
    cache: Path | None
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
        zone: str | None = None,
        cache: bool | str | Path | None = None,
    ) -> Settings:
        """Find each setting's winner.

        Raises:
            ConfigError: the winner cannot be used; the text says where it came from.
        """
        found = _Finder(environ)
        text = found.first("registry", registry, None, "local://")
        with found.blame("registry"):
            url = RegistryURL.parse(text)
        if found.sources["registry"] == "default" and "KUBERNETES_SERVICE_HOST" in environ:
            raise ConfigError(
                "inside Kubernetes the registry must be named: the default, local://, is this "
                "one pod's own. Set MESHKIT_REGISTRY=etcd://host:2379 (or local://, if you mean it)"
            )
        of_url = url.params.get
        settings = cls(
            registry=_complete(url, found, layout),
            namespace=found.first("namespace", namespace, of_url("namespace"), DEFAULT_NAMESPACE),
            ttl=found.seconds("ttl", ttl, of_url("ttl"), DEFAULT_TTL),
            advertise=found.maybe("advertise", advertise, None),
            zone=found.maybe("zone", zone, None) or "",
            cache=found.directory("cache", cache, default_directory(environ)),
            sources=MappingProxyType(found.sources),
        )
        settings._check(found)
        return settings

    def _check(self, found: _Finder) -> None:
        """Find out now, not when the mesh is first used, what cannot be used."""
        if self.advertise is not None:
            with found.blame("advertise"):
                check_advertise(self.advertise)
        if self.registry.scheme == "static":
            return
        with found.blame("layout"):
            others = [*open_others(self.registry, "also"), *open_others(self.registry, "read")]
            layouts = [open_layout(self.registry), *others]
        with found.blame("namespace", "layout"):
            for layout in layouts:
                layout.root(self.namespace)
        if self.registry.scheme in {"etcd", "etcds"}:
            with found.blame(*_ETCD):
                etcd_options(self.registry)


_ETCD: Final = ("etcd_user", "etcd_password", "etcd_cacert", "etcd_cert", "etcd_key")


def _complete(url: RegistryURL, found: _Finder, layout: str | None) -> RegistryURL:
    """`url` with the parameters and credentials that it leaves to other sources."""
    if url.scheme == "static":
        return url
    params = dict(url.params)
    if (given := found.maybe("layout", layout, url.params.get("layout"))) is not None:
        params["layout"] = given
    if url.scheme not in {"etcd", "etcds"}:
        return replace(url, params=MappingProxyType(params))
    for name in ("cacert", "cert", "key"):
        if (path := found.maybe(f"etcd_{name}", None, url.params.get(name))) is not None:
            params[name] = path
    return replace(
        url,
        username=found.maybe("etcd_user", None, url.username),
        password=found.secret("etcd_password", url.password),
        params=MappingProxyType(params),
    )


class _Finder:
    """Finds settings and remembers where each was found."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.sources: dict[str, str] = {}

    def maybe(self, name: str, keyword: str | None, of_url: str | None) -> str | None:
        """The first of keyword, URL and environment that was given; None if none was."""
        variable = f"MESHKIT_{name.upper()}"
        candidates = (
            ("keyword", keyword),
            ("URL", of_url),
            (variable, self._environ.get(variable) or None),  # empty counts as unset
        )
        for source, value in candidates:
            if value is not None:
                self.sources[name] = source
                return value
        return None

    def first(self, name: str, keyword: str | None, of_url: str | None, default: str) -> str:
        """The same; `default` if none was."""
        value = self.maybe(name, keyword, of_url)
        if value is None:
            self.sources[name] = "default"
            return default
        return value

    def seconds(
        self, name: str, keyword: float | None, of_url: str | None, default: float
    ) -> float:
        """The same for a number of seconds above 0."""
        text = self.first(name, None if keyword is None else str(keyword), of_url, str(default))
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        with self.blame(name):
            if not 0 < value < math.inf:
                raise ConfigError(f"{name} is seconds, a number above 0, got {text!r}")
        return value

    def directory(self, name: str, keyword: bool | str | Path | None, default: Path) -> Path | None:
        """An absolute path; None if it is `off`, `default` if it is `on` or was not given."""
        if isinstance(keyword, bool):
            keyword = "on" if keyword else "off"
        text = self.maybe(name, None if keyword is None else str(keyword), None) or "on"
        if text in {"on", "off"}:
            return default if text == "on" else None
        with self.blame(name):
            if not Path(text).is_absolute():
                raise ConfigError(f"{name} is on, off, or an absolute path, got {text!r}")
        return Path(text)

    def secret(self, name: str, of_url: str | None) -> str | None:
        """As `maybe`, for a secret, which the environment may keep in a file (`..._FILE`)."""
        value = self.maybe(name, None, of_url)
        variable = f"MESHKIT_{name.upper()}_FILE"
        path = self._environ.get(variable)
        if value is None and path:
            try:
                value = Path(path).read_text(encoding="utf-8").rstrip("\r\n")
            except (OSError, UnicodeDecodeError) as error:
                raise ConfigError(f"cannot read the file that {variable} names: {error}") from None
            self.sources[name] = variable
        return value

    @contextmanager
    def blame(self, *names: str) -> Iterator[None]:
        """Add to a `ConfigError` of the block where the settings `names` came from."""
        try:
            yield
        except ConfigError as error:
            origins = (
                f"{name} from {self.sources[name]}" for name in names if name in self.sources
            )
            raise ConfigError(f"{error} ({', '.join(origins)})") from None
