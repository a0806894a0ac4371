import pytest

from meshkit.discovery import RegistrationState
from meshkit.endpoint import Endpoint
from meshkit.errors import ConfigError
from meshkit.registry.static import StaticRegistry

pytestmark = pytest.mark.anyio


@pytest.fixture
def registry() -> StaticRegistry:
    return StaticRegistry({"hello": ("10.0.0.1:1", "10.0.0.2:1"), "other": ("h:1",)})


async def test_lists_never_change(registry):
    with registry.watch("hello") as watch:
        assert [e.address for e in watch.latest.value.endpoints] == ["10.0.0.1:1", "10.0.0.2:1"]
        assert (watch.service, watch.registry, watch.age()) == ("hello", "static:", 0.0)
    with registry.watch("nobody") as watch:
        assert len(watch.latest.value.endpoints) == 0
    assert [e.id for e in await registry.endpoints("other")] == ["h:1"]
    assert len(await registry.endpoints("nobody")) == 0
    assert await registry.services() == ("hello", "other")
    assert registry.status().watches["hello"].total == 2
    assert registry.status().connected
    assert registry.peer is None
    await registry.aclose()


async def test_a_listed_address_may_be_registered(registry):
    registration = await registry.register(
        [Endpoint(service="hello", id="x", address="10.0.0.1:1")]
    )
    assert registration.state is RegistrationState.ANNOUNCED
    assert await registration.withdraw()
    assert registration.state is RegistrationState.WITHDRAWN


@pytest.mark.parametrize(("service", "address"), [("hello", "h:1"), ("nobody", "10.0.0.1:1")])
async def test_others_may_not(registry, service, address):
    with pytest.raises(ConfigError, match="is not in the list"):
        await registry.register([Endpoint(service=service, id="x", address=address)])
