"""The least that servers and clients need, as docs/how-to/etcd.md says."""

from collections.abc import Iterator

import anyio
import pytest

from meshkit import Mesh
from meshkit.errors import RegistryAuthError
from meshkit.events import Event, Hook
from meshkit.registry.store import KeyValue
from meshkit.testing.etcd import EtcdProcess
from tests.registry.etcd.rights import READ, READWRITE, enable_auth, root

pytestmark = [pytest.mark.anyio, pytest.mark.etcd]

SERVER = ("orders-server", "s3cret", READWRITE, "meshkit/default/orders/")
CLIENT = ("orders-client", "hush", READ, "meshkit/default/")


@pytest.fixture(scope="module")
def guarded() -> Iterator[EtcdProcess]:
    with EtcdProcess() as process:
        anyio.run(enable_auth, process.endpoint, SERVER, CLIENT)
        yield process


def mesh_as(user: tuple, etcd: EtcdProcess, *hooks: Hook) -> Mesh:
    return Mesh(f"etcd://{user[0]}:{user[1]}@{etcd.endpoint}", ttl=2, cache=False, hooks=hooks)


async def test_server_announces_itself_renews_and_leaves(guarded: EtcdProcess) -> None:
    """And the client sees all of it."""
    async with mesh_as(SERVER, guarded) as server, mesh_as(CLIENT, guarded) as client:
        seen: list[list[str]] = []

        async def watch() -> None:
            async with client.watch("orders") as sets:
                async for endpoints in sets:
                    seen.append([endpoint.address for endpoint in endpoints])

        async with anyio.create_task_group() as group:
            group.start_soon(watch)
            async with server.register("orders", "10.0.0.1:50051"):
                await anyio.sleep(3.0)  # longer than the ttl: it was renewed, and read back
                assert [e.address for e in await client.endpoints("orders")] == ["10.0.0.1:50051"]
                assert server.status().registry.connected
            with anyio.fail_after(5):
                while seen[-1:] != [[]]:
                    await anyio.sleep(0.01)
            group.cancel_scope.cancel()
    assert [] not in seen[1:-1], "it was never missing in between"


async def test_server_of_one_service_cannot_pose_as_another(guarded: EtcdProcess) -> None:
    async with mesh_as(SERVER, guarded) as server:
        for service in ("payments", "orders2"):
            with pytest.raises(RegistryAuthError, match="permission denied"):
                async with server.register(service, "10.0.0.1:50051"):
                    raise AssertionError("not reached")


async def test_client_cannot_write_and_ends_no_lease(guarded: EtcdProcess, make_store) -> None:
    admin = root(guarded.endpoint)
    key = "meshkit/default/orders/kept"
    grant = await admin.grant(60)
    await admin.put({key: b"x"}, lease=grant.lease)
    client = make_store(guarded.endpoint, username=CLIENT[0], password=CLIENT[1])
    for step in (client.put({key: b""}, lease=0), client.delete([key]), client.revoke(grant.lease)):
        with pytest.raises(RegistryAuthError, match="permission denied"):
            await step
    assert (await client.list(key)).items == (KeyValue(key, b"x", grant.lease),)
    with pytest.raises(RegistryAuthError, match="permission denied"):
        await client.list("meshkit/other/")
    await admin.revoke(grant.lease)
    await admin.aclose()


async def test_service_config_has_a_right_of_its_own(guarded: EtcdProcess) -> None:
    """Who may read the endpoints alone follows them, without it; who may read more gets it."""
    admin = root(guarded.endpoint)
    config = b'{"methodConfig":[{"name":[{}],"timeout":"1s"}]}'
    await admin.put({"meshkit/default/orders": config}, lease=0)
    events: list[str] = []

    def hook(event: Event) -> None:
        events.append(event.name)

    async with (
        mesh_as(SERVER, guarded, hook) as server,
        mesh_as(CLIENT, guarded) as client,
        server.channel("orders", warm_up=0) as without,
        client.channel("orders", warm_up=0) as channel,
    ):
        with anyio.fail_after(10):
            while channel.endpoints() is None or without.endpoints() is None:
                await anyio.sleep(0.01)
        assert channel.status().service_config.for_method("/a/b").timeout == 1
        assert without.status().service_config.for_method("/a/b").timeout is None
        assert without.status().trouble is None
        assert events.count("service.config_unreadable") == 1
        with pytest.raises(RegistryAuthError, match="permission denied"):
            await server.configs.publish("orders", {})
        with pytest.raises(RegistryAuthError, match="permission denied"):
            await client.configs.withdraw("orders")
    await admin.delete(["meshkit/default/orders"])
    await admin.aclose()
