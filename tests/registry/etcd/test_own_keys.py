"""Keys of ours that others delete, revoke or write over, in a real etcd."""

from __future__ import annotations

import anyio
import pytest

from meshkit.discovery import RegistrationState
from meshkit.endpoint import Endpoint
from meshkit.events import EndpointKeyDeleted, EndpointTakenOver, LeaseLost
from meshkit.registry.etcd import EtcdOptions, EtcdStore
from meshkit.registry.layouts import MeshkitLayout
from meshkit.registry.registry import Registry
from meshkit.tasks import Supervisor

pytestmark = [pytest.mark.anyio, pytest.mark.etcd]


async def test_each_is_told_and_repaired_within_seconds(etcd) -> None:
    heard = []
    options = EtcdOptions(endpoints=(etcd.endpoint,))
    hand, supervisor = EtcdStore(options), Supervisor(heard.append)
    await supervisor.open()
    registry = Registry(
        EtcdStore(options), MeshkitLayout("own"), ttl=3, emit=heard.append, supervisor=supervisor
    )
    mine = Endpoint(service="s", id="a", address="10.0.0.1:1")
    registration = await registry.register([mine])
    lease = registry.status().lease.id

    async def repaired(*told: type) -> None:
        with anyio.fail_after(3):
            while [type(e) for e in heard if isinstance(e, told)] != list(told):
                await anyio.sleep(0.02)
            while registration.state is not RegistrationState.ANNOUNCED:
                await anyio.sleep(0.02)
        heard.clear()

    await hand.delete(["own/default/s/a"])
    await repaired(EndpointKeyDeleted)
    assert {(i.key, i.lease) for i in (await hand.list("own/")).items} == {
        ("own/default/s/a", lease)
    }

    await hand.revoke(lease)
    await repaired(LeaseLost)
    [item] = (await hand.list("own/")).items
    assert item.lease == registry.status().lease.id != lease

    theirs = (await hand.grant(60)).lease
    await hand.put({"own/default/s/a": b'{"Addr":"10.0.0.9:9"}'}, lease=theirs)
    await repaired(EndpointTakenOver)
    assert {i.key: i.lease for i in (await hand.list("own/")).items} == {
        "own/default/s/a": theirs,
        f"own/default/s/{registration.endpoints[0].id}": registry.status().lease.id,
    }

    await registry.aclose()
    await supervisor.aclose()
    await hand.revoke(theirs)
    assert (await hand.list("own/")).items == ()
    await hand.aclose()
