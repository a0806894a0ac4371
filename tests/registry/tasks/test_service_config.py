"""A service config that is published comes to the watches of its service, and only to them."""

import anyio
import pytest

from meshkit.errors import ConfigError, RegistryAuthError
from meshkit.events import (
    EntrySkipped,
    ServiceConfigChanged,
    ServiceConfigRefused,
    ServiceConfigUnreadable,
    ServiceConfigWithdrawn,
)
from meshkit.registry.cache import Cache
from meshkit.registry.layouts import make_layout
from meshkit.registry.outage import loop_time
from meshkit.service_config import ServiceConfig
from tests.registry.tasks.fakes import Bench, names
from tests.registry.tasks.test_from_cache import inline

__all__ = ["inline"]

pytestmark = pytest.mark.anyio

KEY = "meshkit/default/hello"
HOLD = 20.0


def config(seconds: int) -> dict:
    return {"methodConfig": [{"name": [{}], "timeout": f"{seconds}s"}]}


def timeout(watch) -> float | None:
    found = watch.latest.value.config
    return None if found is None else found.for_method("/a/b").timeout


async def test_it_comes_with_the_same_list_and_the_same_watch(bench: Bench):
    await bench.write("a")
    await bench.registry.configs.publish("hello", config(1))
    with bench.registry.watch("hello") as watch:
        await anyio.sleep(0.1)
        assert (names(watch), timeout(watch)) == (["a"], 1)
        await bench.registry.configs.publish("hello", config(2))
        await anyio.sleep(0.1)
        assert (names(watch), timeout(watch)) == (["a"], 2)
        await bench.registry.configs.withdraw("hello")
        await anyio.sleep(0.1)
        assert (names(watch), timeout(watch)) == (["a"], None)
    assert len(bench.store.times("list")) == len(bench.store.times("watch")) == 1
    assert not bench.events.of(EntrySkipped)
    kinds = ServiceConfigChanged, ServiceConfigWithdrawn
    assert [type(event) for event in bench.events.of(*kinds)] == [
        *(ServiceConfigChanged, ServiceConfigChanged, ServiceConfigWithdrawn)
    ]


async def test_a_service_with_a_longer_name_has_its_own(bench: Bench):
    with (
        bench.registry.watch("hello") as hello,
        bench.registry.watch("helloworld") as world,
        bench.registry.watch("hello.v2") as second,
    ):
        await bench.registry.configs.publish("helloworld", config(1))
        await bench.registry.configs.publish("hello.v2", config(2))
        await anyio.sleep(0.1)
        assert [timeout(watch) for watch in (hello, world, second)] == [None, 1, 2]


async def test_it_is_no_endpoint_and_no_service(bench: Bench):
    await bench.registry.configs.publish("hello", config(1))
    assert len(await bench.registry.endpoints("hello")) == 0
    assert await bench.registry.services() == ()
    await bench.write("a")
    assert await bench.registry.services() == ("hello",)


async def test_a_bad_one_is_refused_and_the_last_good_one_holds(bench: Bench):
    with bench.registry.watch("hello") as watch:
        await bench.registry.configs.publish("hello", config(1))
        await anyio.sleep(0.1)
        await bench.store.inner.put({KEY: b'{"methodConfig": 7}'}, lease=0)
        await anyio.sleep(300)
        assert timeout(watch) == 1
        [refused] = bench.events.of(ServiceConfigRefused)
        assert refused.reason == "methodConfig: must be an array, got 7"
        with pytest.raises(ConfigError, match="methodConfig: must be an array"):
            await bench.registry.configs.read("hello")


async def test_nothing_bad_is_published(bench: Bench):
    with pytest.raises(ConfigError, match="methodConfig: must be an array"):
        await bench.registry.configs.publish("hello", '{"methodConfig": 7}')
    with pytest.raises(ConfigError, match="timout: unknown field"):
        await bench.registry.configs.publish("hello", {"timout": "1s"})
    with pytest.raises(ConfigError, match="more than 65536"):
        await bench.registry.configs.publish(
            "hello", {"loadBalancingConfig": [{"x": "y" * 65536}, {"p2c": {}}]}
        )
    for name in ("", "a/b"):
        with pytest.raises(ConfigError, match="the service"):
            await bench.registry.configs.publish(name, {})
    assert await bench.registry.configs.read("hello") is None
    assert not bench.store.times("put")


async def test_what_only_others_know_is_published_too(bench: Bench):
    document = {"loadBalancingConfig": [{"tomorrow": {"x": 1}}, {"p2c": {}}]}
    await bench.registry.configs.publish("hello", document)
    [item] = await bench.store.inner.read([KEY])
    assert item.value == b'{"loadBalancingConfig":[{"tomorrow":{"x":1}},{"p2c":{}}]}'
    parsed = ServiceConfig.parse(document)
    assert await bench.registry.configs.read("hello") == parsed
    await bench.registry.configs.publish("hello", parsed)
    [item] = await bench.store.inner.read([KEY])
    assert item.value == b'{"loadBalancingConfig":[{"p2c":{}}]}'


async def test_in_an_outage_it_holds(bench: Bench):
    with bench.registry.watch("hello") as watch:
        await bench.write("a")
        await bench.registry.configs.publish("hello", config(1))
        await anyio.sleep(0.1)
        bench.store.go_down()
        await anyio.sleep(3600)
        assert timeout(watch) == 1
        bench.store.come_back()
        await bench.registry.configs.publish("hello", config(2))
        await anyio.sleep(2)
        assert timeout(watch) == 2


async def test_after_a_wipe_it_holds_for_a_while(bench: Bench):
    with bench.registry.watch("hello") as watch:
        await bench.write("a")
        await bench.registry.configs.publish("hello", config(1))
        await anyio.sleep(0.1)
        bench.store.inner.wipe()
        await anyio.sleep(2)
        await bench.write("a")
        await anyio.sleep(HOLD - 3)
        assert (names(watch), timeout(watch)) == (["a"], 1)
        await anyio.sleep(3)
        assert (names(watch), timeout(watch)) == (["a"], None)
        assert len(bench.events.of(ServiceConfigWithdrawn)) == 1


async def test_while_nothing_at_all_stands_there_it_holds(bench: Bench):
    with bench.registry.watch("hello") as watch:
        await bench.write("a")
        await bench.registry.configs.publish("hello", config(1))
        await anyio.sleep(0.1)
        bench.store.inner.wipe()
        await anyio.sleep(3600)
        assert (names(watch), timeout(watch)) == (["a"], 1)
        await bench.write("a")
        await anyio.sleep(60)
        assert (names(watch), timeout(watch)) == (["a"], None)


async def test_a_deletion_that_nobody_saw_is_believed_after_a_while(bench: Bench):
    with bench.registry.watch("hello") as watch:
        await bench.write("a")
        await bench.registry.configs.publish("hello", config(1))
        await anyio.sleep(0.1)
        await bench.registry.configs.withdraw("hello")
        bench.store.break_watches()
        bench.store.inner.compact(10**9)
        await anyio.sleep(HOLD - 1)
        assert timeout(watch) == 1
        await anyio.sleep(3)
        assert timeout(watch) is None


async def test_rights_to_the_endpoints_alone_are_enough_to_follow_them(bench: Bench):
    await bench.registry.configs.publish("hello", config(1))
    await bench.write("a")
    whole = bench.store.list

    async def list_(prefix, *, also=None):
        if also is not None:
            raise RegistryAuthError("permission denied")
        return await whole(prefix)

    bench.store.list = list_
    with bench.registry.watch("hello") as watch:
        await anyio.sleep(100)
        assert (names(watch), timeout(watch)) == (["a"], None)
        assert watch.latest.value.trouble is None
        await bench.write("b")
        await anyio.sleep(0.1)
        assert names(watch) == ["a", "b"]
        assert bench.events.of(ServiceConfigUnreadable) == [
            ServiceConfigUnreadable("hello", KEY, "permission denied")
        ]
        bench.store.list = whole
        await anyio.sleep(60)
        assert timeout(watch) == 1, "granted meanwhile"


async def test_other_layouts_have_no_place_for_it(bench: Bench):
    registry = bench.make(layout=make_layout("etcd3_naming"))
    for step in (
        registry.configs.publish("hello", config(1)),
        registry.configs.withdraw("hello"),
        registry.configs.read("hello"),
    ):
        with pytest.raises(ConfigError, match="layout=meshkit only"):
            await step
    with registry.watch("hello") as watch:
        await anyio.sleep(0.1)
        assert (names(watch), timeout(watch)) == ([], None)
    await registry.aclose()


async def test_it_is_kept_on_disk_beside_the_endpoints(bench: Bench, tmp_path):
    cache = Cache(tmp_path / "cache", scope="fake", wall=loop_time)
    await bench.write("a")
    text = b' {"methodConfig":\r\n[{"name":[{}],\n"timeout":"1s"}]}'  # as somebody may write it
    await bench.store.inner.put({KEY: text}, lease=0)
    registry = bench.make(cache=cache)
    with registry.watch("hello"):
        await anyio.sleep(10)
    await registry.aclose()

    bench.store.go_down()
    registry = bench.make(cache=cache)
    with registry.watch("hello") as watch:
        await anyio.sleep(60)
        assert (names(watch), timeout(watch)) == (["a"], 1)
        bench.store.come_back()
        await anyio.sleep(10)
        assert timeout(watch) == 1
        await bench.registry.configs.withdraw("hello")
        await anyio.sleep(10)
        assert timeout(watch) is None
    await registry.aclose()

    bench.store.go_down()
    registry = bench.make(cache=cache)
    with registry.watch("hello") as watch:
        await anyio.sleep(60)
        assert (names(watch), timeout(watch)) == (["a"], None), "what is deleted is forgotten"
    bench.store.come_back()
    await registry.aclose()
