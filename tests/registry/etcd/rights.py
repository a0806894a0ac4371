"""Switching etcd's authentication on, with as many users as a test needs."""

from operator import attrgetter
from typing import Any

from aetcd import rpc

from meshkit.registry.etcd import EtcdOptions, EtcdStore
from meshkit.registry.etcd.keys import key_range

READ, READWRITE = rpc.Permission.READ, rpc.Permission.READWRITE


def root(endpoint: str) -> EtcdStore:
    return EtcdStore(
        EtcdOptions(endpoints=(endpoint,), username="root", password="r00t", timeout=20.0)
    )


async def enable_auth(endpoint: str, *users: tuple[str, str, Any, str]) -> None:
    """`users` are name, password, right and the prefix that it is for; root may all."""
    store = EtcdStore(EtcdOptions(endpoints=(endpoint,), timeout=20.0))  # bcrypt takes its time
    requests = [
        ("UserAdd", rpc.AuthUserAddRequest(name="root", password="r00t")),
        ("UserGrantRole", rpc.AuthUserGrantRoleRequest(user="root", role="root")),
    ]
    for name, password, right, prefix in users:
        start, end = key_range(prefix)
        permission = rpc.Permission(permType=right, key=start, range_end=end)
        requests += [
            ("UserAdd", rpc.AuthUserAddRequest(name=name, password=password)),
            ("RoleAdd", rpc.AuthRoleAddRequest(name=name)),
            (
                "RoleGrantPermission",
                rpc.AuthRoleGrantPermissionRequest(name=name, perm=permission),
            ),
            ("UserGrantRole", rpc.AuthUserGrantRoleRequest(user=name, role=name)),
        ]
    for method, request in (*requests, ("AuthEnable", rpc.AuthEnableRequest())):
        await store._session.call(attrgetter(f"auth.{method}"), request)
    await store.aclose()
