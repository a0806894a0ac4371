"""Where the endpoints of a service stand: under a prefix of its own in each layout that is read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Final, final

from meshkit.endpoint import Endpoint
from meshkit.registry.layouts import Layout

__all__ = ["Known", "Sources", "service_at"]


def service_at(key: str, roots: Iterable[str]) -> str | None:
    """The service that a key under one of `roots` is of; None if it is no endpoint's.

    A service config is none: it stays when there is no service.
    """
    root = max(filter(key.startswith, roots), key=len)
    name, slash, _ = key.removeprefix(root).partition("/")
    return name if slash else None


@final
class Sources:
    """The keys of a service in all layouts that are read.

    Attributes:
        prefixes: what they start with, in the order of the layouts.

    Raises:
        ConfigError: the names cannot be part of a key.
    """

    def __init__(self, layouts: Sequence[Layout], namespace: str, service: str) -> None:
        self._namespace = namespace
        self._service = service
        by_prefix = {layout.prefix(namespace, service): layout for layout in layouts}
        self.prefixes: Final = tuple(by_prefix)
        # The longest first: the prefix of one layout may begin with that of another.
        self._layouts = dict(sorted(by_prefix.items(), key=lambda item: -len(item[0])))

    def of(self, key: str) -> Layout:
        """The layout of a key."""
        return next(each for prefix, each in self._layouts.items() if key.startswith(prefix))

    def decode(self, key: str, value: bytes) -> Endpoint:
        """The endpoint that somebody wrote; raises `ValueError` as `Layout.decode` does."""
        return self.of(key).decode(self._service, key, value)

    def known(self, confirmed: Callable[[], Mapping[str, Endpoint]]) -> tuple[Known, ...]:
        """What is known of each layout's keys, given what is of all."""
        return tuple(
            Known(prefix, partial(layout.encode, self._namespace), confirmed)
            for prefix, layout in self._layouts.items()
        )


@final
class Known:
    """The confirmed endpoints under one prefix; implements `keeper.Known`."""

    def __init__(
        self,
        prefix: str,
        encode: Callable[[Endpoint], tuple[str, bytes]],
        confirmed: Callable[[], Mapping[str, Endpoint]],
    ) -> None:
        self.prefix: Final = prefix
        self.encode: Final = encode
        self._confirmed = confirmed

    def confirmed(self) -> Mapping[str, Endpoint]:
        """The endpoints that the registry confirms, by key."""
        everywhere = self._confirmed().items()
        return {key: endpoint for key, endpoint in everywhere if key.startswith(self.prefix)}
