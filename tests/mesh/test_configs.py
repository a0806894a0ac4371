"""Service configs through a mesh: published by one program, applied by another."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import anyio
import grpc
import pytest

from meshkit import Channel, ConfigError, Mesh, Policy, ServiceConfig
from meshkit.balancer import POLICIES, RoundRobin
from meshkit.errors import RegistryUnavailable
from meshkit.registry.memory import MemoryStore
from meshkit.testing.etcd import EtcdProcess, find_etcd
from tests.client.fakes import until
from tests.mesh.greeters import AT_ONCE, Greeter, greet

pytestmark = pytest.mark.anyio

POLICIES_IN_TURN = tuple(
    name for name in ("p2c", "ring_hash", "least_request", "round_robin") if name in POLICIES
)
TURNS = {"loadBalancingConfig": [{"round_robin": {}}]}


async def test_what_is_published_is_read_applied_and_withdrawn():
    async with Mesh("memory://publishing") as operator, Mesh("memory://publishing") as client:
        channel = await client.channel("s", warm_up=0)
        assert await operator.configs.read("s") is None
        await operator.configs.publish("s", TURNS)
        assert await operator.configs.read("s") == ServiceConfig.parse(TURNS)
        await until(lambda: channel.status().config_sources["loadBalancingConfig"] == "registry")
        assert channel.status().service_config.load_balancing_config == RoundRobin()

        late = await client.channel("s", warm_up=0, options=[("meshkit.test", 1)])
        await until(lambda: late.status().config_sources["loadBalancingConfig"] == "registry")

        await operator.configs.withdraw("s")
        await operator.configs.withdraw("s")
        assert await operator.configs.read("s") is None
        await until(lambda: channel.status().config_sources["loadBalancingConfig"] == "default")


@pytest.mark.parametrize("form", ["dict", "text", "file", "value"])
async def test_a_config_in_any_form_in_code(form: str, tmp_path: Path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(TURNS), encoding="utf-8")
    given = {
        "dict": TURNS,
        "text": json.dumps(TURNS),
        "file": path,
        "value": ServiceConfig.parse(TURNS),
    }[form]
    async with Mesh("memory://forms") as mesh:
        channel = await mesh.channel("s", warm_up=0, service_config=given)
        assert channel.status().config_sources["loadBalancingConfig"] == "code"
        assert channel.status().service_config.load_balancing_config == RoundRobin()
        assert await mesh.channel("s", warm_up=0, service_config=TURNS) is channel
        await mesh.configs.publish("t", given)
        assert await mesh.configs.read("t") == ServiceConfig.parse(TURNS)


async def test_a_bad_config_in_code_is_refused_at_once():
    mesh = Mesh("memory://bad")
    with pytest.raises(ConfigError, match=r"^methodConfig\[0\].timeout: must be a duration"):
        mesh.channel("s", service_config={"methodConfig": [{"name": [{}], "timeout": 3}]})
    with pytest.raises(ConfigError, match=r"^timout: unknown field"):
        Mesh("memory://bad", default_service_config={"timout": "1s"})
    with pytest.raises(ConfigError, match=r"config.json: No such file"):
        mesh.channel("s", service_config=Path("config.json"))


async def test_the_default_of_a_mesh_is_weaker_than_what_is_published():
    async with Mesh("memory://defaults", default_service_config=TURNS) as mesh:
        channel = await mesh.channel("s", warm_up=0)
        assert channel.status().config_sources["loadBalancingConfig"] == "mesh"
        await mesh.configs.publish("s", {"loadBalancingConfig": [{"p2c": {}}]})
        await until(lambda: channel.status().config_sources["loadBalancingConfig"] == "registry")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("static:s=127.0.0.1:1", "has no place for service configs; give them in code"),
        ("memory://older?layout=etcd3_naming", "with layout=meshkit only"),
    ],
)
async def test_registries_without_a_place_for_it_say_so(url: str, said: str):
    async with Mesh(url) as mesh:
        for step in (
            mesh.configs.publish("s", TURNS),
            mesh.configs.withdraw("s"),
            mesh.configs.read("s"),
        ):
            with pytest.raises(ConfigError, match=said):
                await step


async def test_a_registry_that_is_down_is_an_error_of_who_publishes():
    store = MemoryStore.shared("memory://down")
    async with Mesh("memory://down") as mesh:
        store.cut()
        with pytest.raises(RegistryUnavailable):
            await mesh.configs.publish("s", TURNS)
        store.heal()


@pytest.mark.parametrize(
    "registry", ["memory://changing", pytest.param(None, marks=pytest.mark.etcd)]
)
async def test_policies_change_under_load_and_no_call_fails(registry: str | None):
    """Every call ends well, and the servers get all of them."""
    done = 0

    async def call(channel: grpc.aio.Channel) -> None:
        nonlocal done
        while True:
            await greet(channel)
            done += 1

    def servers() -> int:
        return channel.counts().ready

    with contextlib.ExitStack() as stack:
        if registry is None:
            if find_etcd() is None:
                pytest.skip("no etcd here")
            registry = stack.enter_context(EtcdProcess()).url
        async with (
            Mesh(registry, ttl=5, cache=False) as operator,
            operator.serve("s", Greeter(), quiet=AT_ONCE),
            operator.serve("s", Greeter(), quiet=AT_ONCE),
            operator.serve("s", Greeter(), quiet=AT_ONCE),
            Mesh(registry, cache=False) as mesh,
            mesh.channel("s") as channel,
            anyio.create_task_group() as callers,
        ):
            await until(lambda: servers() == 3)
            for _ in range(4):
                callers.start_soon(call, channel)
            for name in POLICIES_IN_TURN * 3:
                published = {"loadBalancingConfig": [{name: {}}]}
                await operator.configs.publish("s", published)
                wanted = ServiceConfig.parse(published).load_balancing_config
                await until(lambda w=wanted: policy(channel) == w)
                before = done
                await until(lambda n=before: done >= n + 30)
            assert sum(endpoint.failed for endpoint in channel.status().endpoints) == 0
            callers.cancel_scope.cancel()


def policy(channel: Channel) -> Policy | None:
    return channel.status().service_config.load_balancing_config
