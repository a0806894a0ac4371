"""Certificates that are renewed, and names that move, while a store is in use."""

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Self

import anyio
import grpc.aio
import pytest
import trustme

from meshkit.errors import RegistryAuthError
from meshkit.events import Event, TlsReloaded, TlsReloadFailed
from meshkit.registry.etcd import EtcdOptions, EtcdStore
from meshkit.registry.etcd.tls import TlsFiles
from meshkit.testing.etcd import EtcdProcess
from tests.registry.etcd.reading import take

pytestmark = [pytest.mark.anyio, pytest.mark.etcd]


class Files:
    """What an operator renews."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = trustme.CA()
        self.authority.cert_pem.write_to_path(self.path("ca"))
        server = self.authority.issue_cert("127.0.0.1", "localhost")
        server.cert_chain_pems[0].write_to_path(self.path("server"))
        server.private_key_pem.write_to_path(self.path("server-key"))
        self.renew()

    def path(self, name: str) -> str:
        return str(self.folder / f"{name}.pem")

    def renew(self) -> None:
        issued = self.authority.issue_cert("ada")
        issued.cert_chain_pems[0].write_to_path(self.path("cert"))
        issued.private_key_pem.write_to_path(self.path("key"))

    def options(self, *endpoints: str) -> EtcdOptions:
        ours = {"cacert": self.path("ca"), "cert": self.path("cert"), "key": self.path("key")}
        return EtcdOptions(endpoints=endpoints or ("h:1",), **ours)

    @property
    def flags(self) -> tuple[str, ...]:
        return (
            *("--cert-file", self.path("server"), "--key-file", self.path("server-key")),
            *("--client-cert-auth", "--trusted-ca-file", self.path("ca")),
        )


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


class Looking:
    """`TlsFiles` with a clock that is moved by hand."""

    def __init__(self, files: Files) -> None:
        self.now = 100.0
        self.told: list[Event] = []
        self.files = TlsFiles(files.options(), self.told.append, lambda: self.now)

    def later(self) -> bool:
        self.now += 5.0
        return self.files.renewed()


def cut(path: str) -> None:
    Path(path).write_bytes(Path(path).read_bytes()[:100])


def test_files_that_did_not_change_are_no_news(files: Files) -> None:
    looking = Looking(files)
    looking.files.credentials()
    assert not looking.later()
    os.utime(files.path("cert"))
    assert not looking.later(), "touched, but the same"
    assert looking.told == []


def test_renewed_files_are_noticed_within_5_s_and_told_once(files: Files) -> None:
    looking = Looking(files)
    looking.files.credentials()
    files.renew()
    looking.now += 4.9
    assert not looking.files.renewed(), "it does not look at files for each request"
    looking.now += 0.1
    assert looking.files.renewed()
    assert not looking.later()
    assert looking.told == [TlsReloaded("etcds://h:1")]


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda files: Path(files.path("key")).unlink(), id="missing"),
        pytest.param(lambda files: cut(files.path("cert")), id="cut short"),
        pytest.param(lambda files: cut(files.path("ca")), id="no authority"),
        pytest.param(
            lambda files: files.authority.issue_cert("x").private_key_pem.write_to_path(
                files.path("key")
            ),
            id="not of this certificate",
        ),
        pytest.param(
            lambda files: Path(files.path("key")).write_text(
                "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"
            ),
            id="encrypted",
        ),
    ],
)
def test_last_good_files_stay_until_better_ones_come(
    spoil: Callable[[Files], None], files: Files
) -> None:
    looking = Looking(files)
    looking.files.credentials()
    spoil(files)
    assert not looking.later()
    assert not looking.later()
    looking.files.credentials()
    [told] = looking.told
    assert isinstance(told, TlsReloadFailed)
    assert str(files.folder) in told.reason, "which file"
    files.authority.cert_pem.write_to_path(files.path("ca"))
    files.renew()
    assert looking.later()
    assert looking.told[1:] == [TlsReloaded("etcds://h:1")]


def test_files_that_were_never_good_raise_each_time(files: Files) -> None:
    cut(files.path("cert"))
    looking = Looking(files)
    for _ in range(2):
        with pytest.raises(RegistryAuthError, match="cannot be used"):
            looking.files.credentials()
    files.renew()
    looking.files.credentials()
    assert looking.told == []


async def test_connection_in_use_is_replaced(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the next request, which each loop of the registry makes every now and then."""
    monkeypatch.setattr("meshkit.registry.etcd.tls._EVERY", 0.0)
    told: list[Event] = []
    with EtcdProcess(tls=True, flags=files.flags) as process:
        store = EtcdStore(files.options(process.endpoint), emit=told.append)
        grant = await store.grant(60)
        await store.renew(grant.lease)
        start = (await store.list("a")).revision
        async with store.watch("a", after=start) as changes:
            before = store._session._member
            await store.list("a")
            assert store._session._member is before
            files.renew()
            await store.renew(grant.lease)
            assert store._session._member is not before
            assert told == [TlsReloaded(process.url)]
            revision = await store.put({"a": b""}, lease=grant.lease)
            assert (await take(changes))[0].revision == revision, "nobody was cut off"
        await store.list("a")
        assert not before.in_use
        await store.aclose()


async def test_name_is_resolved_anew_for_each_connection(
    etcd: EtcdProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = int(etcd.endpoint.rpartition(":")[2])
    async with NameServer() as names:
        insecure_channel = grpc.aio.insecure_channel

        def asking_ours(target: str, **options: object) -> grpc.aio.Channel:
            return insecure_channel(f"dns://127.0.0.1:{names.port}/{target}", **options)

        monkeypatch.setattr(grpc.aio, "insecure_channel", asking_ours)
        names.address = "127.0.0.9"  # nobody is there
        store = EtcdStore(EtcdOptions(endpoints=(f"etcd.test.:{port}",)), rng=random.Random(1))
        with pytest.raises(Exception, match=r"127\.0\.0\.9"):
            await store.list("a")
        names.address = "127.0.0.1"
        await store.list("a")
        await store.aclose()


class NameServer:
    """Answers every question for an IPv4 address with `address`."""

    address = ""

    async def __aenter__(self) -> Self:
        self._socket = await anyio.create_udp_socket(local_host="127.0.0.1")
        self.port = self._socket.extra(anyio.abc.SocketAttribute.local_port)
        self._group = anyio.create_task_group()
        await self._group.__aenter__()
        self._group.start_soon(self._serve)
        return self

    async def __aexit__(self, *_) -> None:
        self._group.cancel_scope.cancel()
        await self._group.__aexit__(None, None, None)
        await self._socket.aclose()

    async def _serve(self) -> None:
        async for packet, (host, port) in self._socket:
            await self._socket.sendto(self._answer(packet), host, port)

    def _answer(self, query: bytes) -> bytes:
        end = query.index(b"\0", 12) + 5
        question, is_ipv4 = query[12:end], query[end - 4 : end - 2] == b"\0\1"
        header = query[:2] + b"\x84\0" + b"\0\1" + (b"\0\1" if is_ipv4 else b"\0\0") + b"\0\0\0\0"
        found = b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4" + bytes(map(int, self.address.split(".")))
        return header + question + (found if is_ipv4 else b"")
