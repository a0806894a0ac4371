"""The pytest plugin of meshkit: `mesh_url`, `mesh_registry` and `etcd_url`.

pytest imports it at every start, used or not. So it stands beside the package: nothing of meshkit
or gRPC is imported before a fixture asks for it. All fixtures are synchronous: they work with
anyio's plugin, with pytest-asyncio, and with neither.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from meshkit.testing import MemoryStore


@pytest.fixture
def mesh_url(request: pytest.FixtureRequest) -> str:
    """The URL of a registry in memory that no other test has: `Mesh(mesh_url)`."""
    name = re.sub(r"\W+", "-", request.node.name).strip("-")
    return f"memory://{name}-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def mesh_registry(mesh_url: str) -> MemoryStore:
    """The registry behind `mesh_url`, to be hurt: `mesh_registry.cut()`, then `.heal()`."""
    from meshkit.testing import memory_registry

    return memory_registry(mesh_url)


@pytest.fixture(scope="session")
def etcd_url() -> Iterator[str]:
    """The URL of a real etcd, one for the session; skips if there is no binary."""
    from meshkit.testing import EtcdProcess, find_etcd

    if find_etcd() is None:
        pytest.skip("no etcd found; install meshkit[etcd-dev] or set MESHKIT_ETCD_BIN")
    with EtcdProcess() as etcd:
        yield etcd.url
