import itertools
import logging
from pathlib import Path

import anyio
import grpc
import pytest

from meshkit import ConfigError, Mesh, MeshError
from meshkit.config import Settings

ETCD = "etcds://user:pw@h1:2379"
SECRET = "planted-S3cret"


def resolve(registry=None, environ=None, **keywords):
    given = dict.fromkeys(("namespace", "ttl", "layout", "advertise")) | keywords
    return Settings.resolve(registry, **given, environ=environ or {})


def value(settings, name):
    url = settings.registry
    return {
        "registry": lambda: str(url),
        "namespace": lambda: settings.namespace,
        "ttl": lambda: settings.ttl,
        "layout": lambda: url.params.get("layout"),
        "advertise": lambda: settings.advertise,
        "zone": lambda: settings.zone,
        "etcd_user": lambda: url.username,
        "etcd_password": lambda: url.password,
        "etcd_cacert": lambda: url.params.get("cacert"),
        "etcd_cert": lambda: url.params.get("cert"),
        "etcd_key": lambda: url.params.get("key"),
    }[name]()


# setting: by keyword, in the URL, in the environment, by default
SOURCES = {
    "namespace": ("key", "url", "env", "default"),
    "ttl": (1.0, 2.0, 3.0, 15.0),
    "layout": ("etcd3_naming", "meshkit", "etcd3_naming", None),
    "advertise": ("10.0.0.1", None, "10.0.0.3:99", None),
    "zone": ("eu-1", None, "eu-2", ""),
    "etcd_user": (None, "url", "env", None),
    "etcd_password": (None, "url", "env", None),
    "etcd_cacert": (None, "/url", "/env", None),
    "etcd_cert": (None, "/url", "/env", None),
    "etcd_key": (None, "/url", "/env", None),
}


@pytest.mark.parametrize(
    ("keyword", "variable", "wanted"),
    [
        (None, "", "/home/ada/.cache/meshkit"),
        (None, "off", None),
        (None, "/c", "/c"),
        (True, "off", "/home/ada/.cache/meshkit"),
        (False, "/c", None),
        ("/k", "/c", "/k"),
        (Path("/k"), "", "/k"),
    ],
)
def test_where_the_cache_is(keyword, variable, wanted):
    environ = {"HOME": "/home/ada", "MESHKIT_CACHE": variable}
    found = resolve("etcd://h", environ, cache=keyword).cache
    assert found == (wanted and Path(wanted))


@pytest.mark.parametrize("variable", ["false", "cache/here"])
def test_a_cache_that_is_no_place_is_refused(variable):
    with pytest.raises(ConfigError, match=rf"cache is on, off.*'{variable}' \(cache from MESHKIT_"):
        resolve("etcd://h", {"MESHKIT_CACHE": variable})


CASES = [
    (name, given)
    for name, values in SOURCES.items()
    for given in itertools.product([True, False], repeat=3)
    if all(there is not None for there, used in zip(values, given, strict=False) if used)
]


@pytest.mark.parametrize(("name", "given"), CASES)
def test_keyword_wins_over_url_over_environment_over_default(name, given):
    keyword, of_url, variable, default = SOURCES[name]
    by_keyword, in_url, in_environment = given
    # what must come together comes from the environment, unless it is what is tested
    environ = {
        "MESHKIT_ETCD_USER": "u",
        "MESHKIT_ETCD_PASSWORD": "p",
        "MESHKIT_ETCD_CERT": "/c",
        "MESHKIT_ETCD_KEY": "/k",
    }
    partners = {"etcd_user", "etcd_password", "etcd_cert", "etcd_key"}
    if name in partners and not (in_url or in_environment):
        environ = {}
    if in_environment:
        environ[f"MESHKIT_{name.upper()}"] = str(variable)
    login, query = "", ""
    if in_url:
        login = {"etcd_user": "url:x@", "etcd_password": "x:url@"}.get(name, "")
        query = "" if login else f"?{name.removeprefix('etcd_')}={of_url}"
    settings = resolve(
        f"etcds://{login}h{query}", environ, **({name: keyword} if by_keyword else {})
    )
    wanted, source = (
        (keyword, "keyword")
        if by_keyword
        else (of_url, "URL")
        if in_url
        else (variable, f"MESHKIT_{name.upper()}")
        if in_environment
        else (default, "default" if name in ("namespace", "ttl") else None)
    )
    assert value(settings, name) == wanted
    assert settings.sources.get(name) == source


def test_which_registry():
    environ = {"MESHKIT_REGISTRY": "memory://env"}
    for given, env, wanted, source in [
        ("memory://key", environ, "memory://key", "keyword"),
        (None, environ, "memory://env", "MESHKIT_REGISTRY"),
        (None, {}, "local://", "default"),
        (None, {"MESHKIT_REGISTRY": ""}, "local://", "default"),  # empty counts as unset
    ]:
        settings = resolve(given, env)
        assert (str(settings.registry), settings.sources["registry"]) == (wanted, source)
        assert settings.is_implicit == (source == "default")


def test_variables_of_etcd_are_for_etcd_only():
    environ = {"MESHKIT_ETCD_USER": "u", "MESHKIT_ETCD_PASSWORD": SECRET, "MESHKIT_LAYOUT": "x"}
    assert resolve("static:a=h:1", environ).registry.services == {"a": ("h:1",)}
    del environ["MESHKIT_LAYOUT"]
    assert resolve("memory://m", environ).registry.username is None
    assert resolve("local:///x/y.db", environ).registry.password is None


def test_sources_cannot_be_changed():
    with pytest.raises(TypeError):
        resolve("memory://m").sources["ttl"] = "me"


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_a_password_in_a_file(tmp_path, ending):
    path = tmp_path / "password"
    path.write_bytes(f" {SECRET} {ending}".encode())
    environ = {"MESHKIT_ETCD_USER": "u", "MESHKIT_ETCD_PASSWORD_FILE": str(path)}
    settings = resolve("etcd://h", environ)
    assert settings.registry.password == f" {SECRET} "
    assert settings.sources["etcd_password"] == "MESHKIT_ETCD_PASSWORD_FILE"
    environ["MESHKIT_ETCD_PASSWORD"] = "direct"
    assert resolve("etcd://h", environ).registry.password == "direct"


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_password_file_that_cannot_be_read(tmp_path, content):
    path = tmp_path / "password"
    if content is not None:
        path.write_bytes(content)
    environ = {"MESHKIT_ETCD_USER": "u", "MESHKIT_ETCD_PASSWORD_FILE": str(path)}
    with pytest.raises(ConfigError, match="cannot read the file that MESHKIT_ETCD_PASSWORD_FILE"):
        resolve("etcd://h", environ)


@pytest.mark.parametrize(
    ("registry", "environ", "keywords", "wanted"),
    [
        ("nope", {}, {}, r"begins with its scheme.*\(registry from keyword\)"),
        (None, {"MESHKIT_REGISTRY": "x://"}, {}, r"\(registry from MESHKIT_REGISTRY\)"),
        ("memory://m", {}, {"ttl": 0}, r"above 0, got '0' \(ttl from keyword\)"),
        ("memory://m?ttl=0", {}, {}, r"above 0, got '0' \(registry from keyword\)"),
        ("memory://m", {"MESHKIT_TTL": "soon"}, {}, r"got 'soon' \(ttl from MESHKIT_TTL\)"),
        ("memory://m", {"MESHKIT_TTL": "inf"}, {}, r"got 'inf' \(ttl from MESHKIT_TTL\)"),
        ("memory://m", {"MESHKIT_LAYOUT": "x"}, {}, r"layout 'x'.*\(layout from MESHKIT_LAYOUT\)"),
        ("memory://m?layout=x", {}, {}, r"unknown layout 'x'.*\(layout from URL\)"),
        ("memory://m", {}, {"namespace": "a/b"}, r"'a/b' has.*\(namespace from keyword\)"),
        ("memory://m?namespace=", {}, {}, r"is empty \(namespace from URL\)"),
        (
            "etcd://h?layout=etcd3_naming",
            {"MESHKIT_NAMESPACE": "prod"},
            {},
            r"\(namespace from MESHKIT_NAMESPACE, layout from URL\)",
        ),
        ("memory://m", {}, {"advertise": "a b"}, r"no.* address.*\(advertise from keyword\)"),
        (
            "memory://m",
            {"MESHKIT_ADVERTISE": "0.0.0.0"},
            {},
            r"no address others can dial.*\(advertise from MESHKIT_ADVERTISE\)",
        ),
        ("etcd://u@h", {}, {}, r"go together \(etcd_user from URL\)"),
        (
            "etcds://h?cert=/c",
            {"MESHKIT_ETCD_PASSWORD": SECRET},
            {},
            r"go together.*\(etcd_password from MESHKIT_ETCD_PASSWORD, etcd_cert from URL\)",
        ),
    ],
)
def test_errors_come_at_once_and_tell_where_the_bad_value_came_from(
    registry, environ, keywords, wanted
):
    with pytest.raises(ConfigError, match=wanted) as caught:
        Mesh(registry, environ=environ, **keywords)
    assert SECRET not in str(caught.value)


def test_inside_kubernetes_the_registry_must_be_named():
    environ = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}
    with pytest.raises(ConfigError, match=r"inside Kubernetes.*MESHKIT_REGISTRY"):
        Mesh(environ=environ)
    Mesh("local://", environ=environ)
    Mesh(environ=environ | {"MESHKIT_REGISTRY": "local://"})


def test_the_environment_is_that_of_the_process_by_default(monkeypatch):
    monkeypatch.setenv("MESHKIT_REGISTRY", "memory://from-the-environment")
    assert "memory://from-the-environment" in repr(Mesh())


async def use(mesh):
    """Use a mesh whose registry does not answer, and gather all that it says of it."""
    said = []
    async with mesh, mesh.channel("s", warm_up=0) as channel:
        with anyio.move_on_after(0.3):
            async with mesh.register("s", "127.0.0.1:1"):
                pass
        said += [mesh, mesh.status(), channel, channel.status()]
        for ask in (mesh.endpoints, lambda _: channel.unary_unary("/s/M")(b"", timeout=0.05)):
            with pytest.raises((MeshError, grpc.aio.AioRpcError)) as caught:
                await ask("s")
            error = caught.value
            while error is not None:
                said += [error, str(error)]
                error = error.__cause__ or error.__context__
    return said


@pytest.mark.anyio
@pytest.mark.parametrize("where", ["URL", "variable", "file"])
async def test_a_password_is_never_shown(where, tmp_path, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    file = tmp_path / "password"
    file.write_text(SECRET)
    url, environ = {
        "URL": (f"etcd://user:{SECRET}@127.0.0.1:1?timeout=0.1", {}),
        "variable": ("etcd://user@127.0.0.1:1?timeout=0.1", {"MESHKIT_ETCD_PASSWORD": SECRET}),
        "file": (
            "etcd://user@127.0.0.1:1?timeout=0.1",
            {"MESHKIT_ETCD_PASSWORD_FILE": str(file)},
        ),
    }[where]
    events = []
    mesh = Mesh(url, environ=environ, hooks=[events.append])
    said = await use(mesh)
    names = [event.name for event in events]
    assert "config.resolved" in names
    assert "registry.disconnected" in names
    shown = [*said, mesh, mesh._lifetime._settings, *events, *(e.details() for e in events)]
    everything = "\n".join(map(repr, shown)) + caplog.text + "".join(capfd.readouterr())
    assert "user:***@127.0.0.1:1" in everything
    assert SECRET not in everything
    assert SECRET.lower() not in everything.lower()


@pytest.mark.anyio
async def test_where_settings_came_from_is_told_when_a_mesh_opens():
    events = []
    environ = {"MESHKIT_TTL": "7", "MESHKIT_NAMESPACE": "env"}
    url = "memory://sources?namespace=url"
    async with Mesh(url, environ=environ, hooks=[events.append]):
        pass
    assert (events[0].name, events[0].registry, events[0].namespace) == (
        "config.resolved",
        url,
        "url",
    )
    assert events[0].sources == {"registry": "keyword", "namespace": "URL", "ttl": "MESHKIT_TTL"}
