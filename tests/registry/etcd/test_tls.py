"""TLS from files: theirs to check, ours to show."""

from pathlib import Path

import pytest
import trustme

from meshkit.errors import RegistryAuthError, RegistryUnavailable
from meshkit.testing.etcd import EtcdProcess
from tests.registry.etcd.reading import take

pytestmark = [pytest.mark.anyio, pytest.mark.etcd]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    server, client = authority.issue_cert("127.0.0.1", "etcd.test"), authority.issue_cert("ada")
    blobs = {
        "cacert": authority.cert_pem,
        "server_cert": server.cert_chain_pems[0],
        "server_key": server.private_key_pem,
        "cert": client.cert_chain_pems[0],
        "key": client.private_key_pem,
        "stranger": trustme.CA().cert_pem,
    }
    for name, blob in blobs.items():
        blob.write_to_path(folder / name)
    return {name: str(folder / name) for name in blobs}


def server_flags(files: dict[str, str]) -> tuple[str, ...]:
    return ("--cert-file", files["server_cert"], "--key-file", files["server_key"])


async def test_tls(files, make_store, prefix: str) -> None:
    with EtcdProcess(tls=True, flags=server_flags(files)) as process:
        assert process.url.startswith("etcds://")
        store = make_store(process.endpoint, cacert=files["cacert"])
        assert store.name == process.url
        start = await store.put({prefix: b"1"}, lease=0)
        async with store.watch(prefix, after=start - 1) as changes:
            assert (await take(changes))[0].revision == start

        by_name = make_store(process.endpoint, cacert=files["cacert"], server_name="etcd.test")
        await by_name.list(prefix)

        for wrong in (
            {"cacert": files["stranger"]},
            {"tls": True},
            {"cacert": files["cacert"], "server_name": "other.test"},
            {},
        ):
            with pytest.raises(RegistryUnavailable):
                await make_store(process.endpoint, timeout=1.0, **wrong).list(prefix)


async def test_tls_on_one_side_only_is_hinted_at(files, make_store, etcd, prefix: str) -> None:
    with pytest.raises(RegistryUnavailable, match=r"etcd:// is for one that does not\)$"):
        await make_store(etcd.endpoint, tls=True, timeout=2.0).list(prefix)
    with (
        EtcdProcess(tls=True, flags=server_flags(files)) as process,
        pytest.raises(RegistryUnavailable, match=r"then write etcds://\)$"),
    ):
        await make_store(process.endpoint, timeout=2.0).list(prefix)


async def test_mutual_tls(files, make_store, prefix: str) -> None:
    flags = (*server_flags(files), "--client-cert-auth", "--trusted-ca-file", files["cacert"])
    with EtcdProcess(tls=True, flags=flags) as process:
        ours = {name: files[name] for name in ("cacert", "cert", "key")}
        grant = await make_store(process.endpoint, **ours).grant(5)
        assert grant.ttl == 5.0
        with pytest.raises(RegistryUnavailable):
            await make_store(process.endpoint, cacert=files["cacert"], timeout=1.0).list(prefix)


async def test_file_that_cannot_be_read_is_named(files, make_store, tmp_path: Path) -> None:
    store = make_store("127.0.0.1:1", cacert=str(tmp_path / "missing.pem"))
    for step in (store.list("a"), store.renew(1), store.watch("a", after=0).__aenter__()):
        with pytest.raises(RegistryAuthError, match=r"missing\.pem"):
            await step
