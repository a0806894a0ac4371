"""Options that commands share, and what is made of them."""

from __future__ import annotations

import argparse

from meshkit.mesh import Mesh

__all__ = ["add_registry_options", "mesh_of"]


def add_registry_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which mesh; without them the environment does."""
    group = parser.add_argument_group("registry")
    group.add_argument(
        "--registry", metavar="URL", help="etcd://host:2379 (default: $MESHKIT_REGISTRY, local://)"
    )
    group.add_argument(
        "--namespace", metavar="NAME", help="whose services (default: $MESHKIT_NAMESPACE, default)"
    )
    group.add_argument(
        "--layout", metavar="NAME", help="how endpoints are written (default: $MESHKIT_LAYOUT)"
    )


def mesh_of(options: argparse.Namespace) -> Mesh:
    """The mesh that the options say; not open yet.

    Raises:
        ConfigError: an option, or a variable in its place, cannot be used.
    """
    return Mesh(options.registry, namespace=options.namespace, layout=options.layout)
