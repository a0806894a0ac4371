import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshkit.errors import ConfigError
from meshkit.registry.url import RegistryURL

parse = RegistryURL.parse


def test_local_is_the_default_file_or_an_absolute_path():
    assert parse("local://").path == ""
    assert parse("local:///var/lib/my%20mesh.db").path == "/var/lib/my mesh.db"
    assert parse("LOCAL://").scheme == "local"


def test_memory_has_a_name():
    url = parse("memory://test?ttl=2")
    assert (url.scheme, url.path, url.number("ttl")) == ("memory", "test", 2.0)
    assert str(url) == "memory://test?ttl=2"


def test_static_lists_services():
    url = parse("static:hello_service=10.0.0.1:50051, 10.0.0.2:50051 ;other=[::1]:1;")
    assert url.services == {
        "hello_service": ("10.0.0.1:50051", "10.0.0.2:50051"),
        "other": ("[::1]:1",),
    }
    assert str(url) == "static:hello_service=10.0.0.1:50051,10.0.0.2:50051;other=[::1]:1"
    assert parse("static://a=h:1") == parse("static:a=h:1")


def test_etcd_in_full():
    url = parse(
        "etcd://user:p%40ss%2Fword@h1,[fe80::1]:2380,h2:99/my/prefix/?ttl=15&layout=meshkit"
    )
    assert url.scheme == "etcd"
    assert url.endpoints == ("h1:2379", "[fe80::1]:2380", "h2:99")
    assert url.path == "/my/prefix"
    assert (url.username, url.password) == ("user", "p@ss/word")
    assert url.number("ttl") == 15.0
    assert url.number("timeout") is None
    assert url.params["layout"] == "meshkit"
    assert not url.tls


@pytest.mark.parametrize(
    ("text", "scheme", "endpoints"),
    [
        ("http://h:2379,http://h2:2380", "etcd", ("h:2379", "h2:2380")),
        ("https://h/,https://h2/", "etcds", ("h:2379", "h2:2379")),
        ("http://[::1]:2379", "etcd", ("[::1]:2379",)),
        ("etcd://[::1]", "etcd", ("[::1]:2379",)),
        ("etcds://h", "etcds", ("h:2379",)),
        ("  etcd://h  ", "etcd", ("h:2379",)),
    ],
)
def test_etcd_hosts(text, scheme, endpoints):
    url = parse(text)
    assert (url.scheme, url.endpoints, url.path) == (scheme, endpoints, "")
    assert url.tls == (scheme == "etcds")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "begins with its scheme"),
        ("10.0.0.1", "begins with its scheme"),
        ("consul://h", "unknown registry scheme 'consul'; valid are local://"),
        ("local:", "need local://"),
        ("etcd:h:2379", "need etcd://"),
        ("local://relative.db", "absolute"),
        ("memory://", "needs a name"),
        ("memory:///", "needs a name"),
        ("static:", "at least one"),
        ("static:hello", "service=host:port"),
        ("static:=h:1", "service=host:port"),
        ("static:a=h:1;a=h:2", "twice"),
        ("static:a=h", "no port"),
        ("static:a=", "no address"),
        ("etcd://", "host 1 of etcd:// is no host"),
        ("etcd://h1,,h2", "host 2 of etcd:// is no host"),
        ("etcd://h:0", "1..65535"),
        ("etcd://h:65536", "1..65535"),
        ("etcd://h:port", "is no host"),
        ("etcd://::1", "is no host"),
        ("etcd://" + "h" * 400, "is no host"),
        ("http://h,https://h2", "one of http:// and https://"),
        ("etcd://@h", "no user name"),
        ("etcd://:pw@h", "no user name"),
        ("etcd://h?ttl=soon", "ttl is seconds, a number above 0, got 'soon'"),
        ("etcd://h?ttl=nan", "above 0"),
        ("etcd://h?ttl=-1", "above 0"),
        ("etcd://h?timeout=inf", "above 0"),
        ("etcd://h?ttl=1&ttl=2", "twice"),
        ("etcd://h?lease=1", "unknown parameter 'lease' of etcd://; known: ttl, layout"),
        ("etcd://h?cacert=/x", "unknown parameter 'cacert'"),
        ("local://?timeout=1", "unknown parameter 'timeout' of local://"),
        ("etcd://h?&", "unknown parameter ''"),
    ],
)
def test_errors_say_what_is_wrong(text, says):
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert says in str(caught.value)


def test_the_password_is_never_shown():
    url = parse("etcds://user:planted@h/p?cacert=/ca.pem")
    assert str(url) == "etcds://user:***@h:2379/p?cacert=/ca.pem"
    assert repr(url) == "<RegistryURL etcds://user:***@h:2379/p?cacert=/ca.pem>"
    assert "planted" not in f"{url} {url!r}"


@pytest.mark.parametrize(
    "text",
    [
        "redis://user:planted@h",
        "user:planted@h",
        "planted@h",
        "etcd://user:planted",
        "etcd://user:planted@h:x",
        "etcd://user:pl/planted@h",
        "etcd://user:pl?planted@h",
        "etcd://user:pl#planted@h",
        "etcd://:planted@h",
        "etcd://user:planted@",
        "etcd://user:planted@h?ttl=x",
        "etcd://h?password=planted",
        "etcd:user:planted@h",
        "local://user:planted@h",
        "etcd://user:planted/@h",
    ],
)
def test_no_error_shows_the_password(text):
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert "planted" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_password_may_have_an_at_sign_and_colons():
    url = parse("etcd://user:p@s:s@h")
    assert (url.username, url.password, url.endpoints) == ("user", "p@s:s", ("h:2379",))


@given(st.text())
def test_garbage_raises_nothing_but_config_error(text):
    for prefix in ("", "etcd://", "static:", "local://", "memory://", "http://"):
        with contextlib.suppress(ConfigError):
            parse(prefix + text)
