"""The layouts of other frameworks: what they write is read, and what we write they read."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshkit.endpoint import Endpoint, State
from meshkit.errors import ConfigError
from meshkit.registry.layouts import LAYOUTS, make_layout
from tests.registry.test_layouts import GARBAGE, json_values

FOREIGN = [name for name in LAYOUTS if name != "meshkit"]
WITH_LABELS = ["kratos", "kitex", "hertz", "go-micro", "dubbo", "dubbo-app"]

PLAIN = Endpoint(service="hello", id="7f3a", address="10.0.0.5:9000")
FULL = Endpoint(
    service="hello",
    id="7f3a",
    address="[fd00::1]:9000",
    weight=250,
    zone="eu-1",
    version="v1",
    state=State.DRAINING,
    keepalive=5.0,
    metadata={"team": "a", "weight": "not ours"},
)

# Key and value, as the writers of the other frameworks make them.
WRITTEN = {
    "etcd3_naming": ("/etcd3_naming/hello/10.0.0.5:9000", "10.0.0.5:9000"),
    "go-zero": ("hello/867131535804619009", "10.0.0.5:9000"),
    "kratos": (
        "/microservices/hello/7f3a",
        (
            '{"id":"7f3a","name":"hello","version":"","metadata":{},'
            '"endpoints":["grpc://10.0.0.5:9000"]}'
        ),
    ),
    "kitex": (
        "kitex/registry-etcd/hello/10.0.0.5:9000",
        '{"network":"tcp","address":"10.0.0.5:9000","weight":10,"tags":null}',
    ),
    "hertz": (
        "hertz/registry-etcd/hello/10.0.0.5:9000",
        '{"network":"tcp","address":"10.0.0.5:9000","weight":10,"tags":null}',
    ),
    "go-micro": (
        "/micro/registry/hello/hello-7f3a",
        (
            '{"name":"hello","version":"latest","metadata":null,"endpoints":[],"nodes":[{"metadata":'
            '{"protocol":"grpc","transport":"grpc","server":"grpc","registry":"etcd","broker":"http"},'
            '"id":"hello-7f3a","address":"10.0.0.5:9000"}]}'
        ),
    ),
    "dubbo": (
        (
            "/dubbo/hello/providers/tri%3A%2F%2F10.0.0.5%3A9000%2Fhello%3Fanyhost%3Dtrue"
            "%26interface%3Dhello%26side%3Dprovider%26weight%3D100"
        ),
        "",
    ),
    "dubbo-app": (
        "/services/hello/10.0.0.5:9000",
        (
            '{"ID":"10.0.0.5:9000","ServiceName":"hello","Host":"10.0.0.5","Port":9000,"Weight":100,'
            '"Enable":true,"Healthy":true,"Metadata":{"dubbo.endpoints":'
            '"[{\\"port\\":9000,\\"protocol\\":\\"tri\\"}]"}}'
        ),
    ),
    "skydns": (
        "/skydns/local/mesh/hello/7f3a",
        '{"host":"10.0.0.5","port":9000,"priority":10,"weight":100,"ttl":30}',
    ),
}


def read(name, key, value):
    return make_layout(name).decode("hello", key, value.encode())


@pytest.mark.parametrize("name", FOREIGN)
def test_a_plain_endpoint_byte_for_byte(name):
    key, value = make_layout(name).encode("default", PLAIN)
    assert (key, value.decode()) == WRITTEN[name]


@pytest.mark.parametrize("name", FOREIGN)
def test_every_key_is_under_its_service(name):
    layout = make_layout(name)
    key, _ = layout.encode("default", PLAIN)
    assert key.startswith(layout.prefix("default", "hello"))
    assert layout.prefix("default", "hello").startswith(layout.root("default"))
    assert not key.startswith(layout.prefix("default", "hell"))
    under = make_layout(name, prefix="/my/mesh")
    assert under.root("default").strip("/") == "my/mesh"


@pytest.mark.parametrize("name", FOREIGN)
def test_there_is_one_namespace(name):
    with pytest.raises(ConfigError, match=f"layout {name} has no namespaces: 'prod'"):
        make_layout(name).encode("prod", PLAIN)


@pytest.mark.parametrize("name", FOREIGN)
def test_a_plain_endpoint_comes_back(name):
    layout = make_layout(name)
    back = layout.decode("hello", *layout.encode("default", PLAIN))
    assert (back.address, back.weight, back.state) == ("10.0.0.5:9000", 100, State.SERVING)
    assert back.id in ("7f3a", "10.0.0.5:9000")  # the address where the format has no id
    assert back.metadata == {}


@pytest.mark.parametrize("name", WITH_LABELS)
def test_formats_with_labels_carry_everything(name):
    layout = make_layout(name)
    back = layout.decode("hello", *layout.encode("default", FULL))
    assert (back.address, back.weight, back.zone) == ("[fd00::1]:9000", 250, "eu-1")
    assert (back.version, back.keepalive, back.metadata) == ("v1", 5.0, {"team": "a"})
    told = State.SERVING if name == "dubbo" else State.DRAINING  # dubbo's key would be another one
    assert back.state is told


def test_the_key_of_dubbo_stays_the_same_when_the_server_leaves():
    layout = make_layout("dubbo")
    leaving = Endpoint(service="hello", id="a", address="h:1", state=State.DRAINING)
    staying = Endpoint(service="hello", id="a", address="h:1")
    assert layout.encode("default", leaving) == layout.encode("default", staying)


def test_only_servers_of_ours_are_asked_for_their_health_in_kitex():
    layout = make_layout("kitex")
    theirs = Endpoint(service="hello", id="h:1", address="h:1")
    ours = Endpoint(service="hello", id="h:1", address="h:1", keepalive=5.0)
    assert not layout.decode("hello", *layout.encode("default", theirs)).health
    assert layout.decode("hello", *layout.encode("default", ours)).health


def test_the_number_of_go_zero_is_an_int64_and_differs():
    numbers = {
        int(
            make_layout("go-zero").encode(
                "default", Endpoint(service="hello", id=f"{i}", address="h:1")
            )[0][6:]
        )
        for i in range(1000)
    }
    assert len(numbers) == 1000
    assert all(0 <= number < 2**63 for number in numbers)


# What real peers write, with the oddities of each.
PEERS = [
    ("go-zero", "hello/7587883412345678901", "10.0.0.5:8080", {"id": "10.0.0.5:8080"}),
    (
        "kratos",
        "/microservices/hello/8b35-uuid",
        (
            '{"id":"8b35","name":"hello","version":"v1","metadata":{"weight":"50","kind":"x"},'
            '"endpoints":["http://10.0.0.5:8000","grpc://10.0.0.5:8080?isSecure=false"]}'
        ),
        {"id": "8b35", "version": "v1", "weight": 50, "metadata": {"kind": "x"}},
    ),
    (
        "kratos",
        "/microservices/hello/8b35",
        '{"id":"","name":"hello","version":"","metadata":null,"endpoints":["grpcs://10.0.0.5:8080"]}',
        {"id": "8b35", "metadata": {"tls": "true"}},
    ),
    (
        "kratos",
        "/microservices/hello/8b35",
        '{"metadata":{"weight":"heavy"},"endpoints":["grpc://10.0.0.5:8080?isSecure=true"]}',
        {"id": "8b35", "weight": 100, "metadata": {"tls": "true"}},
    ),
    (
        "kitex",
        "kitex/registry-etcd/hello/10.0.0.5:8080",
        '{"network":"tcp","address":"10.0.0.5:8080","weight":25,"tags":{"cluster":"c"}}',
        {"id": "10.0.0.5:8080", "weight": 250, "metadata": {"cluster": "c"}, "health": False},
    ),
    (
        "kitex",
        "kitex/registry-etcd/hello/10.0.0.5:8080",
        '{"network":"tcp","address":"10.0.0.5:8080","weight":0,"tags":null}',
        {"id": "10.0.0.5:8080", "weight": 100, "health": False},
    ),
    (
        "go-micro",
        "/micro/registry/hello/hello-uuid",
        (
            '{"name":"hello","version":"1.0","metadata":null,"endpoints":[{"name":"Greeter.Hello"}],'
            '"nodes":[{"metadata":{"protocol":"grpc","zone":"z"},"id":"hello-uuid",'
            '"address":"10.0.0.5:8080"}]}'
        ),
        {"id": "uuid", "version": "1.0", "zone": "z"},
    ),
    (
        "dubbo",
        (
            "/dubbo/hello/providers/tri%3A%2F%2F10.0.0.5%3A8080%2Fhello%3Fapplication%3Da%26weight%3D20"
            "%26version%3D1.0%26methods%3DSayHello%26side%3Dprovider"
        ),
        "",
        {
            "id": "10.0.0.5:8080",
            "weight": 20,
            "version": "1.0",
            "metadata": {"application": "a", "methods": "SayHello"},
        },
    ),
    (
        "dubbo-app",
        "/services/hello/10.0.0.5:8080",
        (
            '{"id":"10.0.0.5:8080","serviceName":"hello","host":"10.0.0.5","port":8080,"enabled":true,'
            '"healthy":true,"metadata":{"dubbo.endpoints":"[]","zone":"z"}}'
        ),
        {"id": "10.0.0.5:8080", "zone": "z"},
    ),
    (
        "skydns",
        "/skydns/local/mesh/hello/x1",
        '{"host":"10.0.0.5","port":8080,"ttl":60,"text":"t"}',
        {"id": "x1", "weight": 100},
    ),
    (
        "skydns",
        "/skydns/local/mesh/hello/x1",
        '{"host":"fd00::1","port":8080,"weight":7}',
        {"id": "x1", "weight": 7, "address": "[fd00::1]:8080"},
    ),
]


@pytest.mark.parametrize(("name", "key", "value", "fields"), PEERS)
def test_what_peers_write_is_read(name, key, value, fields):
    expected = Endpoint(**{"service": "hello", "address": "10.0.0.5:8080"} | fields)
    assert read(name, key, value) == expected


NOT_FOR_US = [
    ("kratos", '{"id":"a","endpoints":["http://10.0.0.5:8000"]}', "no endpoint with grpc"),
    ("kratos", '{"id":"a","endpoints":[7,"grpc://nowhere"]}', "no port"),
    ("kratos", '{"id":"a","endpoints":"grpc://10.0.0.5:1"}', "no endpoint with grpc"),
    ("kitex", '{"network":"unix","address":"/tmp/x"}', "not tcp"),
    ("kitex", '{"network":"tcp","address":7}', "address"),
    ("kitex", '{"address":"h:1","weight":true}', "weight"),
    ("go-micro", '{"nodes":[{"metadata":{"protocol":"mucp"},"address":"h:1"}]}', "not grpc"),
    ("go-micro", '{"nodes":[]}', "not one node"),
    ("go-micro", '{"nodes":[{"id":"a"}]}', "address"),
    ("dubbo-app", '{"Host":"h","Port":1,"Enable":false}', "switched off"),
    ("dubbo-app", '{"Host":"h","Port":true}', "missing"),
    ("dubbo-app", '{"Host":"h"}', "missing"),
    ("skydns", '{"host":"10.0.0.5"}', "missing"),
    ("skydns", '{"host":"10.0.0.5","port":1,"weight":-1}', "weight"),
]


@pytest.mark.parametrize(("name", "value", "why"), NOT_FOR_US)
def test_what_is_not_for_us_is_a_value_error(name, value, why):
    with pytest.raises(ValueError, match=why):
        read(name, "/some/hello/a", value)


@pytest.mark.parametrize(
    "name", ["dubbo%3A%2F%2F10.0.0.5%3A20880%2Fhello", "", "x", "tri%3A%2F%2F"]
)
def test_other_protocols_of_dubbo_are_value_errors(name):
    with pytest.raises(ValueError):
        read("dubbo", f"/dubbo/hello/providers/{name}", "")


@pytest.mark.parametrize("value", GARBAGE, ids=range(len(GARBAGE)))
@pytest.mark.parametrize("name", [name for name in FOREIGN if name != "dubbo"])
def test_garbage_is_a_value_error(name, value):
    with pytest.raises(ValueError) as caught:
        make_layout(name).decode("hello", "/x/hello/a", value)
    assert len(str(caught.value)) < 200


@given(st.sampled_from(FOREIGN), st.binary(), st.text())
def test_random_bytes_raise_nothing_but_value_error(name, value, key):
    with contextlib.suppress(ValueError):
        make_layout(name).decode("hello", key, value)


FIELDS = ["id", "version", "metadata", "endpoints", "network", "address", "weight", "tags", "nodes",
          "host", "port", "enable"]  # fmt: skip


@given(st.sampled_from(FOREIGN), st.dictionaries(st.sampled_from(FIELDS), json_values))
def test_json_of_any_shape_raises_nothing_but_value_error(name, fields):
    with contextlib.suppress(ValueError):
        make_layout(name).decode("hello", "/x/hello/a", json.dumps(fields).encode())
    node = json.dumps({"nodes": [fields]}).encode()
    with contextlib.suppress(ValueError):
        make_layout(name).decode("hello", "/x/hello/a", node)


words = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=1, max_size=30)


@given(
    st.sampled_from(WITH_LABELS),
    st.builds(
        Endpoint,
        service=words,
        id=words,
        address=st.builds("{}:{}".format, words, st.integers(1, 65535)),
        weight=st.integers(1, 10**6).map(lambda weight: weight * 10),
        zone=st.text(),
        version=words,
        metadata=st.dictionaries(words.map("x-{}".format), st.text(min_size=1), max_size=4),
    ),
)
def test_formats_with_labels_read_what_they_write(name, endpoint):
    layout = make_layout(name)
    back = layout.decode(endpoint.service, *layout.encode("default", endpoint))
    assert (back.weight, back.zone, back.version) == (
        endpoint.weight,
        endpoint.zone,
        "" if name == "go-micro" and endpoint.version == "latest" else endpoint.version,
    )
    assert (back.address, back.metadata) == (endpoint.address, endpoint.metadata)


@pytest.mark.parametrize(
    ("name", "fields", "why"),
    [
        ("kitex", {"weight": 0}, "no weight 0"),
        ("hertz", {"weight": 0}, "layout hertz has no weight 0"),
        ("skydns", {"weight": 0}, "weights from 1"),
        ("skydns", {"weight": 65536}, "weights from 1"),
        ("skydns", {"id": "a.b"}, "no label of DNS"),
        ("skydns", {"service": "hello.v1"}, "no label of DNS"),
        ("kratos", {"id": "a/b"}, "endpoint id"),
        ("go-micro", {"id": ""}, "endpoint id"),
        *((name, {"address": "nowhere"}, "no port") for name in FOREIGN),
    ],
)
def test_what_a_format_cannot_say_is_refused(name, fields, why):
    endpoint = Endpoint(**{"service": "hello", "id": "a", "address": "h:1"} | fields)
    with pytest.raises(ConfigError, match=why):
        make_layout(name).encode("default", endpoint)


def test_tls_is_the_scheme_in_kratos():
    secure = Endpoint(service="hello", id="a", address="h:1", metadata={"tls": "true"})
    layout = make_layout("kratos")
    key, value = layout.encode("default", secure)
    assert json.loads(value)["endpoints"] == ["grpcs://h:1"]
    assert layout.decode("hello", key, value) == secure
