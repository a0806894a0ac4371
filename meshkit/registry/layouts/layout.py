"""The seam between endpoints and keys: how one registry tool or another writes them."""

from __future__ import annotations

from typing import ClassVar, Final, Protocol

from meshkit.endpoint import Endpoint
from meshkit.errors import ConfigError
from meshkit.registry.address import split_address

__all__ = [
    "ADDRESS",
    "ALL",
    "DEFAULT_NAMESPACE",
    "LABELS",
    "WEIGHT",
    "Folder",
    "Layout",
    "check_address",
    "check_name",
]

DEFAULT_NAMESPACE: Final = "default"
_MAX_NAME: Final = 200

# What layouts can say: an address alone, a weight, labels in texts, or all that there is.
ADDRESS, WEIGHT, LABELS, ALL = range(4)


class Layout(Protocol):
    """How an endpoint is written as key and value.

    Attributes:
        name: what it is called in URLs.
        detail: how much it can say. Of two entries at one address, that with more stands.
    """

    name: ClassVar[str]
    detail: ClassVar[int]

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

    def config_key(self, namespace: str, service: str) -> str | None:
        """Where the service config of `service` is; None: the layout has none.

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


class Folder:
    """What the layouts without namespaces share: services are folders side by side.

    Args:
        prefix: above the services; slashes around it do not matter.
    """

    name: ClassVar[str]
    detail: ClassVar[int] = LABELS
    default_prefix: ClassVar[str] = ""
    slash: ClassVar[str] = "/"  # how keys begin

    def __init__(self, prefix: str = "") -> None:
        above = (prefix or self.default_prefix).strip("/")
        parts = above.split("/") if above else []
        self._root = self.slash + "".join(f"{check_name('prefix', part)}/" for part in parts)

    def root(self, namespace: str) -> str:
        """The prefix of all services; there is one namespace only."""
        if namespace != DEFAULT_NAMESPACE:
            raise ConfigError(
                f"layout {self.name} has no namespaces: {namespace!r} cannot be used; "
                "give another prefix as the path of the URL, or use layout=meshkit"
            )
        return self._root

    def prefix(self, namespace: str, service: str) -> str:
        """The prefix of all keys of `service`."""
        return f"{self.root(namespace)}{check_name('service', service)}/"

    def config_key(self, namespace: str, service: str) -> None:  # noqa: ARG002
        """None: its other readers would take it for an endpoint, or for nothing."""
        return


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
