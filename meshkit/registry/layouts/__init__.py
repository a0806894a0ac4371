"""How endpoints are written as keys and values, by the name of the layout."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from meshkit.errors import ConfigError
from meshkit.registry.layouts.etcd3_naming import Etcd3NamingLayout
from meshkit.registry.layouts.layout import DEFAULT_NAMESPACE, Layout
from meshkit.registry.layouts.meshkit import MeshkitLayout

__all__ = [
    "DEFAULT_LAYOUT",
    "DEFAULT_NAMESPACE",
    "Etcd3NamingLayout",
    "Layout",
    "MeshkitLayout",
    "make_layout",
]

DEFAULT_LAYOUT: Final = "meshkit"

_BY_NAME: Final[Mapping[str, Callable[..., Layout]]] = MappingProxyType(
    {"meshkit": MeshkitLayout, "etcd3_naming": Etcd3NamingLayout}
)


def make_layout(name: str = DEFAULT_LAYOUT, *, prefix: str = "") -> Layout:
    """The layout called `name`, its keys under `prefix` ("": the layout's own).

    Raises:
        ConfigError: there is none of that name, or the prefix cannot be used.
    """
    if name not in _BY_NAME:
        raise ConfigError(f"unknown layout {name!r}; known: {', '.join(_BY_NAME)}")
    return _BY_NAME[name](prefix) if prefix else _BY_NAME[name]()
