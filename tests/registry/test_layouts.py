import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshkit.endpoint import Endpoint, State
from meshkit.errors import ConfigError
from meshkit.registry.layouts import Etcd3NamingLayout, MeshkitLayout, make_layout

KEY = "meshkit/default/hello/7f3a"

names = st.text(min_size=1, max_size=200).filter(
    lambda text: text.isprintable() and " " not in text and "/" not in text
)
hosts = st.one_of(
    st.from_regex(r"[a-z0-9][a-z0-9.-]{0,60}", fullmatch=True),
    st.just("[::1]"),
    st.just("[fe80::1]"),
)
addresses = st.builds("{}:{}".format, hosts, st.integers(1, 65535))
endpoints = st.builds(
    Endpoint,
    service=names,
    id=names,
    address=addresses,
    weight=st.integers(0, 2**32 - 1),
    zone=st.text(),
    version=st.text(),
    state=st.sampled_from(State),
    keepalive=st.floats(0, 86400),
    metadata=st.dictionaries(st.text(), st.text(), max_size=4),
)


def meshkit_value(**fields):
    return json.dumps({"Op": 0, "Addr": "10.0.0.1:1", "Metadata": fields}).encode()


def test_a_plain_endpoint_byte_for_byte():
    endpoint = Endpoint(service="hello", id="7f3a", address="10.0.0.1:50051")
    assert MeshkitLayout().encode("default", endpoint) == (
        "meshkit/default/hello/7f3a",
        b'{"Op":0,"Addr":"10.0.0.1:50051","Metadata":{}}',
    )


def test_a_full_endpoint_byte_for_byte():
    endpoint = Endpoint(
        service="hello",
        id="7f3a",
        address="[::1]:50051",
        weight=50,
        zone="eu-1a",
        version="1.2",
        state=State.DRAINING,
        keepalive=12.5,
        metadata={"z": "1", "a": "2"},
    )
    assert MeshkitLayout("/my/mesh/").encode("prod", endpoint) == (
        "my/mesh/prod/hello/7f3a",
        (
            b'{"Op":0,"Addr":"[::1]:50051","Metadata":{"weight":50,"zone":"eu-1a","version":"1.2",'
            b'"state":"draining","keepalive":12.5,"labels":{"a":"2","z":"1"}}}'
        ),
    )


def test_prefixes_end_in_a_slash():
    layout = MeshkitLayout()
    assert layout.root("default") == "meshkit/default/"
    assert layout.prefix("default", "hello.v1.Greeter") == "meshkit/default/hello.v1.Greeter/"
    assert Etcd3NamingLayout().prefix("default", "hello") == "/etcd3_naming/hello/"
    assert Etcd3NamingLayout("/my/naming").prefix("default", "hello") == "/my/naming/hello/"


@pytest.mark.parametrize(
    "value",
    [
        b'{"Op":0,"Addr":"10.0.0.1:1","Metadata":null}',
        b'{"Op":0,"Addr":"10.0.0.1:1"}',
        b'{"addr":"10.0.0.1:1"}',
        b'{"OP":0,"ADDR":"10.0.0.1:1","METADATA":{}}',
        b'{"Addr":"10.0.0.1:1","Metadata":"free text"}',
        b'{"Addr":"10.0.0.1:1","Metadata":[1,2]}',
        b'{"Addr":"10.0.0.1:1","Metadata":{"isLB":true,"nested":{"a":[]}},"New":1}',
        b'{"Addr":"10.0.0.1:1","Metadata":{"zone":7,"version":null,"state":"odd","labels":3}}',
        b' {"Addr" : "10.0.0.1:1"}\n',
    ],
)
def test_what_go_and_others_write_is_read(value):
    read = MeshkitLayout().decode("hello", KEY, value)
    assert read == Endpoint(service="hello", id="7f3a", address="10.0.0.1:1")


def test_go_keys_and_text_weights_are_read():
    value = b'{"Op":0,"Addr":"127.0.0.1:19002","Metadata":{"version":"go","weight":"3"}}'
    read = MeshkitLayout().decode("hello", "meshkit/default/hello/127.0.0.1:19002", value)
    assert (read.id, read.weight, read.version) == ("127.0.0.1:19002", 3, "go")


@pytest.mark.parametrize(
    ("weight", "is_read_as"),
    [("3", 3), (3, 3), (2.6, 3), ("0.2", 1), (0, 0), (4294967295, 2**32 - 1)],
)
def test_weights(weight, is_read_as):
    assert MeshkitLayout().decode("hello", KEY, meshkit_value(weight=weight)).weight == is_read_as


def test_labels_that_are_no_text_are_left_out():
    read = MeshkitLayout().decode("hello", KEY, meshkit_value(labels={"a": "1", "b": 2}))
    assert read.metadata == {"a": "1"}


GARBAGE = [
    b"", b" ", b"\x00", b"\xff\xfe", b"\xed\xa0\x80", b"\xef\xbb\xbf{}", b"10.0.0.1",
    b"10.0.0.1:1 x",
    b"null", b"true", b"1", b"-1", b"1e999", b"NaN", b"Infinity", b'""', b'"10.0.0.1:1"', b"[]",
    b"[[]]", b"{", b"}", b"{}", b"{]", b"{'Addr':'h:1'}", b'{"Addr":}', b'{"Addr":null}',
    b'{"Addr":1}', b'{"Addr":[]}', b'{"Addr":{}}', b'{"Addr":""}', b'{"Addr":"h"}',
    b'{"Addr":"h:"}', b'{"Addr":":1"}', b'{"Addr":"h:0"}', b'{"Addr":"h:65536"}',
    b'{"Addr":"h:99999999999"}', b'{"Addr":"h:-1"}', b'{"Addr":"h:http"}', b'{"Addr":"h :1"}',
    b'{"Addr":"h\\n:1"}', b'{"Addr":"h\\u0000:1"}', b'{"Addr":"\\ud800:1"}', b'{"Addr":"::1:1"}',
    b'{"Addr":"[::1]"}', b'{"Addr":"[::1:1"}', b'{"Addr":"http://h:1"}', b'{"Addr":"a,b:1"}',
    b'{"Addr":"u@h:1"}', b'{"Addr":"h:1","Op":1}', b'{"Addr":"h:1","Op":2}',
    b'{"Addr":"h:1","Op":"x"}', b'{"Addr":"h:1","Op":[]}', b'{"Addr":"h:1","Op":null,}',
    b'{"Addr":"h:1"} trailing',
    b'{"Addr":"h:' + b"\xd9\xa1" + b'"}',  # a digit of another script
    b"[" * 60000, b'{"a":' * 10000, b'{"Addr":"h:1","Op":' + b"[" * 900 + b"]" * 900 + b"}",
    b"x" * 70000, b'{"Addr":"h:1","x":"' + b"x" * 70000 + b'"}',
    b'{"Addr":"' + b"h" * 60000 + b':1"}', b"9" * 5000,
]  # fmt: skip


@pytest.mark.parametrize("value", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_is_a_value_error(value):
    for layout in (MeshkitLayout(), Etcd3NamingLayout()):
        with pytest.raises(ValueError) as caught:
            layout.decode("hello", KEY, value)
        assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    "weight", ["NaN", "Infinity", "-1", "-0.1", "1e300", "9" * 400, "4294967296", "true", "null",
               "[]", "{}", '"x"', '"nan"', '""', '"-1"', "9" * 5000]
)  # fmt: skip
def test_bad_weights_are_value_errors(weight):
    value = b'{"Addr":"h:1","Metadata":{"weight":%s}}' % weight.encode()
    with pytest.raises(ValueError):
        MeshkitLayout().decode("hello", KEY, value)


@pytest.mark.parametrize(
    "key",
    [
        "",
        "x",
        "hello",
        "meshkit/default/hello/",
        "meshkit/default/hello/a/b",
        "meshkit/default/other/a",
        "meshkit/default/hello/a b",
    ],
)
def test_keys_of_others_are_value_errors(key):
    with pytest.raises(ValueError):
        MeshkitLayout().decode("hello", key, b'{"Addr":"h:1"}')


@given(st.binary(), st.text())
def test_random_bytes_raise_nothing_but_value_error(value, key):
    for layout in (MeshkitLayout(), Etcd3NamingLayout()):
        with contextlib.suppress(ValueError):
            layout.decode("hello", key, value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(json_values, json_values, json_values)
def test_json_of_any_shape_raises_nothing_but_value_error(op, weight, labels):
    value = {"Op": op, "Addr": "h:1", "Metadata": {"weight": weight, "labels": labels}}
    with contextlib.suppress(ValueError):
        MeshkitLayout().decode("hello", KEY, json.dumps(value).encode())


@given(endpoints, names)
def test_meshkit_reads_what_it_writes(endpoint, namespace):
    layout = MeshkitLayout()
    key, value = layout.encode(namespace, endpoint)
    assert key.startswith(layout.prefix(namespace, endpoint.service))
    assert layout.decode(endpoint.service, key, value) == endpoint


@given(names, addresses)
def test_etcd3_naming_reads_what_it_writes(service, address):
    layout = Etcd3NamingLayout()
    endpoint = Endpoint(service=service, id=address, address=address)
    key, value = layout.encode("default", endpoint)
    assert (key, value) == (f"/etcd3_naming/{service}/{address}", address.encode())
    assert layout.decode(service, key, value) == endpoint


def test_etcd3_naming_reads_the_value_of_any_key():
    read = Etcd3NamingLayout().decode("hello", "/etcd3_naming/hello/x", b"10.0.0.1:50051\n")
    assert (read.id, read.address) == ("10.0.0.1:50051", "10.0.0.1:50051")


def test_etcd3_naming_has_no_namespaces():
    with pytest.raises(ConfigError, match="no namespaces"):
        Etcd3NamingLayout().prefix("prod", "hello")


@pytest.mark.parametrize("name", ["", "a/b", "a b", "a\nb", "a\x00", "x" * 201, "\ud800", "\u00a0"])
def test_bad_names_are_refused(name):
    layout = MeshkitLayout()
    with pytest.raises(ConfigError, match="service"):
        layout.prefix("default", name)
    with pytest.raises(ConfigError, match="namespace"):
        layout.prefix(name, "hello")
    with pytest.raises(ConfigError, match="endpoint id"):
        layout.encode("default", Endpoint(service="hello", id=name, address="h:1"))


@pytest.mark.parametrize(
    "address", ["", "h", "h:0", "h:65536", "h:x", "::1:1", "a b:1", "http://h:1"]
)
def test_bad_addresses_are_refused(address):
    endpoint = Endpoint(service="hello", id="a", address=address)
    for layout in (MeshkitLayout(), Etcd3NamingLayout()):
        with pytest.raises(ConfigError):
            layout.encode("default", endpoint)


def test_a_weight_that_others_cannot_carry_is_refused():
    endpoint = Endpoint(service="hello", id="a", address="h:1", weight=2**32)
    with pytest.raises(ConfigError, match="weight"):
        MeshkitLayout().encode("default", endpoint)


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf"), 1e9])
def test_a_keepalive_that_is_no_time_is_refused_and_not_read(seconds):
    endpoint = Endpoint(service="hello", id="a", address="h:1", keepalive=seconds)
    with pytest.raises(ConfigError, match="keepalive"):
        MeshkitLayout().encode("default", endpoint)
    assert MeshkitLayout().decode("hello", KEY, meshkit_value(keepalive=seconds)).keepalive == 0.0


def test_layouts_by_name():
    assert make_layout().root("default") == "meshkit/default/"
    assert make_layout("meshkit", prefix="/x").root("default") == "x/default/"
    assert make_layout("etcd3_naming").root("default") == "/etcd3_naming/"
    assert make_layout("etcd3_naming", prefix="/x").root("default") == "/x/"
    with pytest.raises(ConfigError, match="known: meshkit, etcd3_naming"):
        make_layout("gozero")
    with pytest.raises(ConfigError, match="prefix"):
        make_layout("meshkit", prefix="/a//b")
