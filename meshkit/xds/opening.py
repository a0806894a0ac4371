"""The door to all that needs the extra `xds`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshkit.discovery import Directory
from meshkit.errors import ConfigError
from meshkit.events import Emit
from meshkit.tasks import Supervisor
from meshkit.xds.options import ControlPlaneOptions

if TYPE_CHECKING:
    from meshkit.xds.control_plane import ControlPlane

__all__ = ["make_control_plane"]


def make_control_plane(
    registry: Directory, name: str, options: ControlPlaneOptions, supervisor: Supervisor, emit: Emit
) -> ControlPlane:
    """A control plane; see `ControlPlane`.

    Raises:
        ConfigError: xds-protos is not installed.
    """
    try:
        from meshkit.xds.control_plane import ControlPlane
    except ImportError as error:
        raise ConfigError("xDS needs an extra: pip install 'meshkit[xds]'") from error
    return ControlPlane(registry, name, options, supervisor, emit)
