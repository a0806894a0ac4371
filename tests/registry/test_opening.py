import pytest

from meshkit.discovery import Registrar, Resolver
from meshkit.endpoint import Endpoint
from meshkit.errors import ConfigError
from meshkit.registry.memory import MemoryStore
from meshkit.registry.opening import open_registry
from meshkit.registry.registry import Registry
from meshkit.registry.static import StaticRegistry
from meshkit.registry.url import RegistryURL
from meshkit.tasks import Supervisor

pytestmark = pytest.mark.anyio


def open_url(text: str, **options):
    events = []
    supervisor = Supervisor(events.append)
    return open_registry(
        RegistryURL.parse(text), emit=events.append, supervisor=supervisor, **options
    )


async def test_each_scheme_opens():
    assert isinstance(open_url("static:a=h:1"), StaticRegistry)
    assert open_url("memory://test").name == "memory://test"
    assert "/x/mesh.db" in open_url("local:///x/mesh.db").name
    assert open_url("local://").peer is None


async def test_etcd_gets_all_that_the_url_says():
    registry = open_url("etcds://user:planted@h1,h2:99/p?cacert=/ca&cert=/c&key=/k&timeout=7")
    options = registry._store._options
    assert options.endpoints == ("h1:2379", "h2:99")
    assert (options.username, options.password) == ("user", "planted")
    assert (options.tls, options.timeout) == (True, 7.0)
    assert (options.cacert, options.cert, options.key) == ("/ca", "/c", "/k")
    assert "planted" not in registry.name
    assert registry._roots == ("p/default/",)
    assert not open_url("etcd://h")._store._options.tls


async def test_arguments_win_over_the_url_and_the_url_over_defaults():
    url = "memory://test?namespace=prod&ttl=3"
    assert (open_url(url).namespace, open_url(url)._hold) == ("prod", 8.0)
    assert open_url(url, namespace="dev", ttl=6.0).namespace == "dev"
    assert open_url(url, namespace="dev", ttl=6.0)._hold == 11.0
    assert (open_url("memory://test").namespace, open_url("memory://test")._hold) == (
        "default",
        20.0,
    )


@pytest.mark.parametrize("url", ["memory://test", "local:///x/mesh.db", "etcd://h", "etcds://h"])
async def test_endpoints_are_kept_on_disk_where_the_registry_is_another_machines(url, tmp_path):
    kept = open_url(url, cache=tmp_path)._keeper
    assert (kept is not None) == url.startswith("etcd")
    assert open_url(url)._keeper is None


async def test_a_kept_file_is_of_one_cluster_layout_and_prefix(tmp_path):
    urls = ("etcd://h", "etcd://g", "etcds://h", "etcd://u:planted@h?ttl=7", "etcd://h/p")
    registries = [open_url(url, cache=tmp_path) for url in urls]
    registries += [
        open_url("etcd://h", cache=tmp_path, namespace="n"),
        open_url("etcd://h?layout=etcd3_naming", cache=tmp_path),
    ]
    paths = [r._keeper._cache.path(r._roots[0] + "hello/") for r in registries]
    assert paths[0] == paths[3], "as whom, and for how long, does not matter"
    assert len(set(paths)) == len(paths) - 1


async def test_layouts():
    assert open_url("etcd://h?layout=etcd3_naming")._roots == ("/etcd3_naming/",)
    assert open_url("etcd://h/mine?layout=etcd3_naming")._roots == ("/mine/",)
    assert open_url("local:///x/y.db")._roots == ("meshkit/default/",)
    with pytest.raises(ConfigError, match="unknown layout"):
        open_url("etcd://h?layout=nacos")


async def test_meshes_of_one_process_share_a_memory_by_its_name():
    first, second = open_url("memory://shared"), open_url("memory://shared")
    assert first._store is second._store is MemoryStore.shared("memory://shared")


def test_both_kinds_are_both_ports(tmp_path):
    def ports(registry: Registry | StaticRegistry) -> tuple[Resolver, Registrar]:
        return registry, registry  # mypy checks this; the test that it has the methods

    for registry in (open_url("static:a=h:1"), open_url("memory://ports")):
        resolver, registrar = ports(registry)
        assert resolver.watch
        assert registrar.register


async def test_local_works_end_to_end(tmp_path):
    events = []
    supervisor = Supervisor(events.append)
    await supervisor.open()
    url = RegistryURL.parse(f"local://{tmp_path}/mesh.db")
    registry = open_registry(url, emit=events.append, supervisor=supervisor)
    with registry.watch("hello") as watch:
        endpoint = Endpoint(service="hello", id="a", address="127.0.0.1:1")
        registration = await registry.register([endpoint])
        while not watch.latest.value.endpoints:
            await watch.latest.changed()
        assert list(watch.latest.value.endpoints) == [endpoint]
        assert await registration.withdraw()
        assert len(await registry.endpoints("hello")) == 0
    await registry.aclose()
    await supervisor.aclose()


async def test_layouts_besides():
    registry = open_url("etcd://h/p?also=kratos,go-zero")
    others = [layout.root("default") for layout in registry._registrar._layouts]
    assert others == ["p/default/", "/microservices/", ""]
    for wrong in ("meshkit", "kratos,kratos"):
        with pytest.raises(ConfigError, match=f"also={wrong}: each layout once"):
            open_url(f"memory://x?also={wrong}")
    with pytest.raises(ConfigError, match="unknown layout 'nacos'"):
        open_url("memory://x?also=nacos")


def test_what_is_read_besides_is_known_and_named_once():
    open_url("memory://x?read=kratos,go-zero&also=kratos")
    with pytest.raises(ConfigError, match="read=meshkit: each layout once"):
        open_url("memory://x?read=meshkit")
    with pytest.raises(ConfigError, match="layout go-zero has no namespaces"):
        open_url("memory://x?read=go-zero&namespace=prod")
