"""Users, rights, and tokens that go stale."""

from collections.abc import Iterator
from operator import attrgetter

import anyio
import anyio.to_thread
import pytest
from aetcd import rpc

from meshkit.errors import RegistryAuthError, RegistryUnavailable
from meshkit.registry.etcd import EtcdStore
from meshkit.registry.etcd.tokens import Tokens
from meshkit.testing.etcd import EtcdProcess
from tests.registry.etcd.reading import take
from tests.registry.etcd.rights import READWRITE, enable_auth

pytestmark = [pytest.mark.anyio, pytest.mark.etcd]

ADA = {"username": "ada", "password": "s3cret"}
HERS = ("ada", "s3cret", READWRITE, "hers/")


@pytest.fixture(scope="module")
def guarded() -> Iterator[EtcdProcess]:
    """Tokens live 1 s without use; the least that etcd takes."""
    with EtcdProcess(flags=("--auth-token-ttl", "1")) as process:
        anyio.run(enable_auth, process.endpoint, HERS)
        yield process


@pytest.fixture
def authentications(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One entry for each time that somebody asks for a token."""
    asked: list[str] = []
    ask = Tokens._ask

    async def counted(tokens, member):
        asked.append(member.endpoint)
        return await ask(tokens, member)

    monkeypatch.setattr(Tokens, "_ask", counted)
    return asked


async def test_one_token_serves_all_requests(guarded, make_store, authentications) -> None:
    store = make_store(guarded.endpoint, **ADA)
    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(store.list, "hers/")
    grant = await store.grant(60)
    await store.renew(grant.lease)
    start = await store.put({"hers/1": b""}, lease=grant.lease)
    async with store.watch("hers/", after=start) as changes:
        await store.delete(["hers/1"])
        assert (await take(changes))[0].revision == start + 1
    assert len(authentications) == 1


async def test_expired_token_is_renewed(guarded, make_store, authentications) -> None:
    store = make_store(guarded.endpoint, **ADA)
    start = (await store.list("hers/")).revision
    await anyio.sleep(2.5)  # etcd looks for expired tokens every second
    await store.list("hers/")
    assert len(authentications) == 2
    await anyio.sleep(2.5)
    async with store.watch("hers/", after=start) as changes:
        revision = await store.put({"hers/2": b""}, lease=0)
        assert (await take(changes))[0].revision == revision
    assert len(authentications) == 3


async def test_token_of_the_time_before_a_restart_is_renewed(make_store) -> None:
    with EtcdProcess() as process:
        await enable_auth(process.endpoint, HERS)
        store = make_store(process.endpoint, **ADA)
        grant = await store.grant(60)
        await store.renew(grant.lease)
        start = (await store.list("hers/")).revision
        await anyio.to_thread.run_sync(process.restart)
        assert await store.renew(grant.lease) == 60.0
        async with store.watch("hers/", after=start) as changes:
            revision = await store.put({"hers/3": b""}, lease=grant.lease)
            assert (await take(changes))[0].revision == revision


async def test_slow_authentication_is_waited_for_not_repeated(make_store, authentications) -> None:
    """A check of a password that nobody waits for any more is one more that keeps etcd busy."""
    with EtcdProcess() as process:
        await enable_auth(process.endpoint, HERS)
        store = make_store(process.endpoint, **ADA, timeout=0.4)
        await store.list("hers/")
        store._session._tokens._token = None
        process.pause()
        for _ in range(3):
            with anyio.fail_after(3), pytest.raises(RegistryUnavailable):
                await store.list("hers/")
        process.resume()
        with anyio.fail_after(5):
            while store._session._tokens._token is None:
                await anyio.sleep(0.01)
        await store.list("hers/")
        assert len(authentications) == 2


async def test_close_during_an_authentication(make_store) -> None:
    with EtcdProcess() as process:
        await enable_auth(process.endpoint, HERS)
        store = make_store(process.endpoint, **ADA)
        process.pause()
        async with anyio.create_task_group() as group:
            group.start_soon(refused, store)
            await anyio.sleep(0.1)
            with anyio.fail_after(1):
                await store.aclose()
        process.resume()
        await store.list("hers/")


async def refused(store: EtcdStore) -> None:
    with pytest.raises(RegistryUnavailable, match="closed"):
        await store.list("hers/")


async def test_token_older_than_the_rights_is_renewed(guarded, make_store) -> None:
    store = make_store(guarded.endpoint, **ADA)
    root = make_store(guarded.endpoint, username="root", password="r00t")
    await store.list("hers/")
    await root._session.call(attrgetter("auth.RoleAdd"), rpc.AuthRoleAddRequest(name="another"))
    await store.list("hers/")


async def test_refused_watch_raises_and_is_not_taken_for_a_quiet_one(guarded, make_store) -> None:
    store = make_store(guarded.endpoint, **ADA)
    with anyio.fail_after(2), pytest.raises(RegistryAuthError, match="permission denied"):
        async with store.watch("others/", after=0):
            raise AssertionError("not reached")


async def test_watch_refused_although_a_read_is_not(
    guarded, make_store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rights may come and go between the two; asked once more, not for ever."""
    store = make_store(guarded.endpoint, **ADA)
    call, reads = store._session.call, []

    async def allowed(method, request):
        reads.append(request)
        request.key, request.range_end = b"hers/", b"hers0"
        return await call(method, request)

    monkeypatch.setattr(store._session, "call", allowed)
    with anyio.fail_after(2), pytest.raises(RegistryAuthError, match="watch refused"):
        async with store.watch("others/", after=0):
            raise AssertionError("not reached")
    assert len(reads) == 1


@pytest.mark.parametrize(
    "who", [{}, {"username": "ada", "password": "s3cret-but-wrong"}], ids=["nobody", "wrong"]
)
async def test_bad_credentials_are_refused_without_being_told(guarded, make_store, who) -> None:
    store = make_store(guarded.endpoint, timeout=20.0, **who)  # bcrypt takes its time
    for step in (store.list("hers/"), store.watch("hers/", after=0).__aenter__()):
        with pytest.raises(RegistryAuthError) as caught:
            await step
        assert "s3cret" not in f"{caught.value!r} {caught.value.__cause__!r}"


async def test_forbidden_write(guarded, make_store) -> None:
    store = make_store(guarded.endpoint, **ADA)
    with pytest.raises(RegistryAuthError, match="permission denied"):
        await store.put({"others/1": b""}, lease=0)


async def test_credentials_for_a_cluster_that_asks_for_none(
    etcd, make_store, prefix: str, authentications
) -> None:
    store = make_store(etcd.endpoint, **ADA)
    await store.list(prefix)
    await store.list(prefix)
    assert len(authentications) == 1


async def test_authentication_that_is_switched_on_later(make_store) -> None:
    with EtcdProcess() as process:
        store = make_store(process.endpoint, **ADA)
        await store.list("hers/")
        await enable_auth(process.endpoint, HERS)
        await store.list("hers/")
