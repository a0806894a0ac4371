"""How endpoints are written as keys and values, by the name of the layout."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from meshkit.errors import ConfigError
from meshkit.registry.layouts.dubbo import DubboApplicationLayout, DubboLayout
from meshkit.registry.layouts.etcd3_naming import Etcd3NamingLayout
from meshkit.registry.layouts.go_micro import GoMicroLayout
from meshkit.registry.layouts.go_zero import GoZeroLayout
from meshkit.registry.layouts.kitex import HertzLayout, KitexLayout
from meshkit.registry.layouts.kratos import KratosLayout
from meshkit.registry.layouts.layout import DEFAULT_NAMESPACE, Layout
from meshkit.registry.layouts.meshkit import MeshkitLayout
from meshkit.registry.layouts.skydns import SkyDNSLayout

__all__ = [
    "DEFAULT_LAYOUT",
    "DEFAULT_NAMESPACE",
    "LAYOUTS",
    "Etcd3NamingLayout",
    "Layout",
    "MeshkitLayout",
    "make_layout",
]

DEFAULT_LAYOUT: Final = MeshkitLayout.name

LAYOUTS: Final[Mapping[str, Callable[..., Layout]]] = MappingProxyType(
    {
        MeshkitLayout.name: MeshkitLayout,
        Etcd3NamingLayout.name: Etcd3NamingLayout,
        GoZeroLayout.name: GoZeroLayout,
        KratosLayout.name: KratosLayout,
        KitexLayout.name: KitexLayout,
        HertzLayout.name: HertzLayout,
        GoMicroLayout.name: GoMicroLayout,
        DubboLayout.name: DubboLayout,
        DubboApplicationLayout.name: DubboApplicationLayout,
        SkyDNSLayout.name: SkyDNSLayout,
    }
)


def make_layout(name: str = DEFAULT_LAYOUT, *, prefix: str = "") -> Layout:
    """The layout called `name`, its keys under `prefix` ("": the layout's own).

    Raises:
        ConfigError: there is none of that name, or the prefix cannot be used.
    """
    if name not in LAYOUTS:
        raise ConfigError(f"unknown layout {name!r}; known: {', '.join(LAYOUTS)}")
    return LAYOUTS[name](prefix) if prefix else LAYOUTS[name]()
