"""Options, keys and the meaning of statuses: no etcd needed."""

import asyncio

import grpc
import grpc.aio
import pytest
from aetcd import rpc
from hypothesis import given
from hypothesis import strategies as st

from meshkit.errors import ConfigError, RegistryAuthError, RegistryError, RegistryUnavailable
from meshkit.latest import Latest
from meshkit.registry.etcd import EtcdOptions, EtcdStore
from meshkit.registry.etcd.changes import Changes
from meshkit.registry.etcd.errors import AuthDisabled, TokenRefused, mapped, meaning
from meshkit.registry.etcd.keys import decode, encode, key_range, single
from meshkit.registry.store import Compacted, LeaseGone

C = grpc.StatusCode


@pytest.mark.parametrize(
    ("code", "details", "expected"),
    [
        (C.UNAVAILABLE, "failed to connect to all addresses", RegistryUnavailable),
        (C.UNAVAILABLE, "etcdserver: no leader", RegistryUnavailable),
        (C.UNAVAILABLE, "etcdserver: request timed out", RegistryUnavailable),
        (C.UNAVAILABLE, "etcdserver: leader changed", RegistryUnavailable),
        (C.UNAVAILABLE, "ping timeout", RegistryUnavailable),
        (C.DEADLINE_EXCEEDED, "Deadline Exceeded", RegistryUnavailable),
        (C.CANCELLED, "CANCELLED", RegistryUnavailable),
        (C.INTERNAL, "RST_STREAM", RegistryUnavailable),
        (C.UNKNOWN, "Stream removed", RegistryUnavailable),
        (C.UNIMPLEMENTED, "", RegistryUnavailable),
        (C.RESOURCE_EXHAUSTED, "etcdserver: too many requests", RegistryUnavailable),
        (C.RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded", RegistryUnavailable),
        (C.DATA_LOSS, "etcdserver: corrupt cluster", RegistryUnavailable),
        (C.UNAUTHENTICATED, "etcdserver: invalid auth token", TokenRefused),
        (C.UNAUTHENTICATED, "something new", TokenRefused),
        (C.INVALID_ARGUMENT, "etcdserver: user name is empty", TokenRefused),
        (C.INVALID_ARGUMENT, "etcdserver: revision of auth store is old", TokenRefused),
        (
            C.INVALID_ARGUMENT,
            "etcdserver: authentication failed, invalid user ID or password",
            RegistryAuthError,
        ),
        (C.PERMISSION_DENIED, "etcdserver: permission denied", RegistryAuthError),
        (C.FAILED_PRECONDITION, "etcdserver: authentication is not enabled", AuthDisabled),
        (C.NOT_FOUND, "etcdserver: requested lease not found", LeaseGone),
        (
            C.OUT_OF_RANGE,
            "etcdserver: mvcc: required revision has been compacted",
            Compacted,
        ),
        (
            C.OUT_OF_RANGE,
            "etcdserver: mvcc: required revision is a future revision",
            Compacted,
        ),
        (C.INVALID_ARGUMENT, "etcdserver: request is too large", RegistryError),
        (C.INVALID_ARGUMENT, "etcdserver: too many operations in txn request", RegistryError),
    ],
)
def test_meaning_of_a_status(code: C, details: str, expected: type[RegistryError]) -> None:
    assert meaning(code, details) is expected


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        (
            "rpc error: code = PermissionDenied desc = etcdserver: permission denied",
            RegistryAuthError,
        ),
        ("etcdserver: invalid auth token", TokenRefused),
        ("etcdserver: user name is empty", TokenRefused),
        ("etcdserver: mvcc: duplicate watch ID provided on the WatchStream", RegistryUnavailable),
        ("", RegistryUnavailable),
    ],
)
def test_refused_watch_says_why(reason: str, expected: type[RegistryError]) -> None:
    changes = Changes(1, "h:1", single("a"), after=0, cluster=None, news=Latest(None))
    with pytest.raises(RegistryError, match="watch refused") as caught:
        changes.take(rpc.WatchResponse(created=True, canceled=True, cancel_reason=reason))
    assert type(caught.value) is expected


def test_grpc_errors_are_mapped_with_their_cause_and_the_endpoint() -> None:
    meta = grpc.aio.Metadata()
    cause = grpc.aio.AioRpcError(C.NOT_FOUND, meta, meta, "etcdserver: requested lease not found")
    with pytest.raises(LeaseGone, match="h:1: NOT_FOUND etcdserver") as caught, mapped("h:1"):
        raise cause
    assert caught.value.__cause__ is cause


@pytest.mark.parametrize("error", [grpc.aio.UsageError("closed"), asyncio.InvalidStateError()])
def test_use_of_a_closed_connection_is_unavailable(error: Exception) -> None:
    with pytest.raises(RegistryUnavailable, match="closed"), mapped("h:1"):
        raise error


@pytest.mark.parametrize(
    ("endpoint", "peer"),
    [
        ("10.0.0.1:2379", ("10.0.0.1", 2379)),
        ("etcd.example:1", ("etcd.example", 1)),
        ("[::1]:2379", ("::1", 2379)),
    ],
)
def test_endpoints(endpoint: str, peer: tuple[str, int]) -> None:
    store = EtcdStore(EtcdOptions(endpoints=(endpoint,)))
    assert store.peer == peer
    assert store.name == f"etcd://{endpoint}"


@pytest.mark.parametrize(
    "endpoint",
    [
        "",
        "host",
        "host:",
        ":1",
        "host:0",
        "host:65536",
        "host:x",
        "::1:2379",
        "[h]:1",
        "u@h:1",
        "http://h:1",
        "[::1]",
        "host:²",
    ],
)
def test_bad_endpoints_are_refused(endpoint: str) -> None:
    with pytest.raises(ConfigError):
        EtcdOptions(endpoints=(endpoint,))


@pytest.mark.parametrize(
    "bad",
    [
        {"endpoints": ()},
        {"cert": "c.pem"},
        {"key": "k.pem"},
        {"username": "ada"},
        {"password": "s3cret"},
        {"timeout": 0},
        {"probe_interval": -1},
        {"page": 0},
    ],
)
def test_options_that_cannot_work_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ConfigError) as caught:
        EtcdOptions(**bad)
    assert "s3cret" not in str(caught.value)


def test_password_is_in_no_repr_or_name() -> None:
    options = EtcdOptions(username="ada", password="s3cret", tls=True)
    store = EtcdStore(options)
    assert "s3cret" not in f"{options!r} {store!r} {store.name}"
    assert store.name == "etcds://127.0.0.1:2379"


@pytest.mark.parametrize(
    ("prefix", "start", "end"),
    [
        ("a/", b"a/", b"a0"),
        ("", b"\0", b"\0"),
        ("a\udcff", b"a\xff", b"b"),
        ("\udcff\udcff", b"\xff\xff", b"\0"),
    ],
)
def test_range_of_a_prefix(prefix: str, start: bytes, end: bytes) -> None:
    assert key_range(prefix) == (start, end)


@given(prefix=st.binary(min_size=1, max_size=4), key=st.binary(min_size=1, max_size=6))
def test_range_holds_exactly_the_keys_with_the_prefix(prefix: bytes, key: bytes) -> None:
    start, end = key_range(decode(prefix))
    inside = start <= key and (end == b"\0" or key < end)
    assert inside is key.startswith(prefix)


@given(st.binary(max_size=8))
def test_any_key_survives_the_way_through(key: bytes) -> None:
    assert encode(decode(key)) == key
