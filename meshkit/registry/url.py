"""Registry URLs: which registry, where, and as whom.

```text
local://                     this machine's file            local:///var/lib/mesh.db
memory://name                inside this process            (tests)
static:a=h1:1,h2:1;b=h3:1    fixed lists; `,` between addresses, `;` between services
etcd://[user:password@]h1:2379,h2:2379[/prefix][?ttl=15&layout=meshkit]      etcds:// with TLS
http://h1:2379,http://h2:2379    as etcd's own tools write it (https:// is etcds://)
```

Nothing here ever shows a password: not the errors, not `str`, not `repr`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, final
from urllib.parse import quote, unquote

from meshkit.errors import ConfigError
from meshkit.registry.address import split_address

__all__ = ["DEFAULT_ETCD_PORT", "RegistryURL"]

DEFAULT_ETCD_PORT: Final = 2379

_SHARED: Final = ("ttl", "layout", "also", "read", "namespace")
_PARAMS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "local": _SHARED,
        "memory": _SHARED,
        "static": (),
        "etcd": (*_SHARED, "timeout"),
        "etcds": (*_SHARED, "timeout", "cacert", "cert", "key"),
    }
)
_ALIASES: Final = MappingProxyType({"http": "etcd", "https": "etcds"})
_NUMBERS: Final = ("ttl", "timeout")
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+-]*):(//)?")
_VALID: Final = (
    "valid are local://, memory://name, static:service=host:port,..., "
    "etcd://host:2379,..., etcds://host:2379,..."
)


@final
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class RegistryURL:
    """A registry's URL in parts; `str` and `repr` mask the password.

    Attributes:
        scheme: `local`, `memory`, `static`, `etcd` or `etcds`.
        endpoints: `host:port` of the registry's servers; empty where there are none.
        path: of the file (`local`), the name (`memory`), or the prefix of all keys with its
            leading slash (`etcd`); "" for the default.
        username: to log in with, or None.
        password: to log in with, or None.
        services: the fixed lists of `static`.
        params: what stood behind the `?`; names and numbers are checked.
    """

    scheme: str
    endpoints: tuple[str, ...] = ()
    path: str = ""
    username: str | None = None
    password: str | None = None
    services: Mapping[str, tuple[str, ...]] = field(
        default_factory=lambda: MappingProxyType({}), hash=False
    )
    params: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), hash=False)

    @classmethod
    def parse(cls, text: str) -> RegistryURL:
        """Read a URL.

        Raises:
            ConfigError: it cannot be used; the text says what is wrong and what is valid.
        """
        match = _SCHEME.match(text.strip())
        if match is None:
            raise ConfigError(f"a registry URL begins with its scheme; {_VALID}")
        written = match[1].lower()
        scheme = _ALIASES.get(written, written)
        if scheme not in _PARAMS:
            raise ConfigError(f"unknown registry scheme {written!r}; {_VALID}")
        rest = text.strip()[match.end() :]
        if scheme == "static":
            return cls(scheme=scheme, services=_read_services(rest))
        if match[2] is None:
            raise ConfigError(f"need {written}://, not {written}:")
        body, _, query = rest.partition("?")
        if scheme in {"etcd", "etcds"}:
            return _read_etcd(scheme, written, rest)
        params = _read_params(scheme, query)
        path = unquote(body)
        if scheme == "local" and path and not path.startswith("/"):
            raise ConfigError("a path of local:// is absolute: local:///var/lib/mesh.db")
        if scheme == "memory" and not path.strip("/"):
            raise ConfigError("memory:// needs a name: memory://test")
        return cls(
            scheme=scheme, path=path.strip("/") if scheme == "memory" else path, params=params
        )

    @property
    def tls(self) -> bool:
        """Whether the registry is spoken to through TLS."""
        return self.scheme == "etcds"

    def number(self, name: str) -> float | None:
        """The parameter `name`, in seconds; None if it was not given."""
        return float(self.params[name]) if name in self.params else None

    def __str__(self) -> str:
        if self.scheme == "static":
            lists = (f"{name}={','.join(them)}" for name, them in self.services.items())
            return f"static:{';'.join(lists)}"
        user = "" if self.username is None else quote(self.username, safe="")
        secret = "" if self.password is None else ":***"
        login = f"{user}{secret}@" if user or secret else ""
        query = "&".join(f"{name}={quote(value)}" for name, value in self.params.items())
        question = f"?{query}" if query else ""
        return f"{self.scheme}://{login}{','.join(self.endpoints)}{quote(self.path)}{question}"

    def __repr__(self) -> str:
        return f"<RegistryURL {self}>"


def _read_etcd(scheme: str, written: str, rest: str) -> RegistryURL:
    login, at, rest = rest.rpartition("@")
    # A raw "/" or "?" here is a password that was not encoded, or an "@" in the path: guessing
    # could show a part of the password as a host name.
    if any(char in login for char in "/?#"):
        raise ConfigError("write '/', '?', '#' and '@' as %2F, %3F, %23 and %40 outside their use")
    rest = re.sub(rf"/?,{written}://", ",", rest)
    hosts_and_path, _, query = rest.partition("?")
    hosts, _, path = hosts_and_path.partition("/")
    username, colon, password = login.partition(":")
    if at and not username:
        raise ConfigError(f"there is no user name before the '@': {scheme}://user:password@host")
    path = unquote(path).strip("/")
    return RegistryURL(
        scheme=scheme,
        endpoints=tuple(
            _read_host(scheme, number, host) for number, host in enumerate(hosts.split(","), 1)
        ),
        path=f"/{path}" if path else "",
        username=unquote(username) if at else None,
        password=unquote(password) if colon else None,
        params=_read_params(scheme, query),
    )


def _read_host(scheme: str, number: int, text: str) -> str:
    if text in {"http:", "https:"}:
        raise ConfigError("use one of http:// and https:// for all hosts")
    try:
        host, port = split_address(text, default_port=DEFAULT_ETCD_PORT)
    except ValueError:
        # Without the text: in etcd://user:password, a forgotten @host makes a "port" of a secret.
        raise ConfigError(
            f"host {number} of {scheme}:// is no host or host:port "
            f"(port 1..65535, IPv6 as [::1]:{DEFAULT_ETCD_PORT})"
        ) from None
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _read_params(scheme: str, query: str) -> Mapping[str, str]:
    known = _PARAMS[scheme]
    params: dict[str, str] = {}
    for part in query.split("&") if query else ():
        name, _, value = part.partition("=")
        if name not in known:
            raise ConfigError(
                f"unknown parameter {name!r} of {scheme}://; known: {', '.join(known)}"
            )
        if name in params:
            raise ConfigError(f"parameter {name!r} is there twice")
        params[name] = unquote(value)
        if name in _NUMBERS:
            _check_seconds(name, params[name])
    return MappingProxyType(params)


def _check_seconds(name: str, value: str) -> None:
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise ConfigError(f"{name} is seconds, a number above 0, got {value!r}")


def _read_services(text: str) -> Mapping[str, tuple[str, ...]]:
    services: dict[str, tuple[str, ...]] = {}
    for part in filter(None, (part.strip() for part in text.split(";"))):
        name, equals, addresses = part.partition("=")
        name = name.strip()
        if not name or not equals:
            raise ConfigError("static: needs service=host:port,host:port;other=host:port")
        if name in services:
            raise ConfigError(f"static: has service {name!r} twice")
        services[name] = tuple(_read_address(item.strip()) for item in addresses.split(","))
    if not services:
        raise ConfigError("static: needs at least one service=host:port")
    return MappingProxyType(services)


def _read_address(text: str) -> str:
    try:
        split_address(text)
    except ValueError as error:
        raise ConfigError(f"static: {error}") from None
    return text
