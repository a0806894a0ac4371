"""The seam between endpoints and keys: how one registry tool or another writes them."""

from __future__ import annotations

from typing import Final, Protocol

from meshkit.endpoint import Endpoint
from meshkit.errors import ConfigError
from meshkit.registry.address import split_address

__all__ = ["DEFAULT_NAMESPACE", "MAX_VALUE", "Layout", "check_address", "check_name", "read_text"]

DEFAULT_NAMESPACE: Final = "default"
MAX_VALUE: Final = 65536  # bytes; an endpoint has a few hundred
_MAX_NAME: Final = 200


class Layout(Protocol):
    """How an endpoint is written as key and value."""

    def root(self, namespace: str) -> str:
        """The prefix of all services of `namespace`; what follows is `<service>/...`.

        Raises:
            ConfigError: the layout cannot have this namespace.
        """
        ...

    def prefix(self, namespace: str, service: str) -> str:
        """The prefix of all keys of `service`; ends in "/", or `a` would also find `ab`.

        Raises:
            ConfigError: a name cannot be part of a key.
        """
        ...

    def encode(self, namespace: str, endpoint: Endpoint) -> tuple[str, bytes]:
        """Key and value of `endpoint`, strict enough for the weakest reader.

        Raises:
            ConfigError: the endpoint cannot be written in this layout.
        """
        ...

    def decode(self, service: str, key: str, value: bytes) -> Endpoint:
        """The endpoint that somebody wrote, as tolerant as is safe.

        Raises:
            ValueError: it is none; nothing else is raised, whatever the bytes.
        """
        ...


def check_name(kind: str, name: str) -> str:
    """Return `name` if it can be one part of a key, else raise `ConfigError`."""
    if not name:
        raise ConfigError(f"the {kind} is empty")
    if len(name) > _MAX_NAME:
        raise ConfigError(f"the {kind} {name[:40]!r}... is longer than {_MAX_NAME} characters")
    if "/" in name or " " in name or not name.isprintable():
        raise ConfigError(f"the {kind} {name!r} has a '/', a blank or a control character in it")
    return name


def check_address(address: str) -> str:
    """Return `address` if it is a `host:port`, else raise `ConfigError`."""
    try:
        split_address(address)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    return address


def read_text(value: bytes) -> str:
    """The text of a value that a stranger wrote; `ValueError` if it is too long or no UTF-8."""
    if len(value) > MAX_VALUE:
        raise ValueError(f"the value has {len(value)} bytes, more than {MAX_VALUE}")
    return value.decode()
