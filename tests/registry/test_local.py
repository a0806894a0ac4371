"""What only the local store does: files, processes that die, and hands that delete."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sqlite3
import stat
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from meshkit.errors import ConfigError, MeshClosedError, RegistryError, RegistryUnavailable
from meshkit.registry import owner
from meshkit.registry.local import LocalStore
from meshkit.registry.local import store as local_store
from meshkit.registry.local.database import Database
from meshkit.registry.local.locks import LeaseLocks
from meshkit.registry.local.place import default_path
from meshkit.registry.store import Batch, Compacted, KeyValue
from tests.registry.stores import LocalHarness, python

pytestmark = pytest.mark.anyio


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "meshkit" / "registry.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[LocalStore]:
    async with contextlib.aclosing(LocalStore(path)) as opened:
        yield opened


@pytest.fixture
async def other(path: Path) -> AsyncIterator[LocalStore]:
    async with contextlib.aclosing(LocalStore(path)) as opened:
        yield opened


@pytest.fixture
async def owners(path: Path) -> AsyncIterator[LocalHarness]:
    """Starts processes that hold leases, and kills them."""
    async with contextlib.AsyncExitStack() as stack:
        yield LocalHarness(path, stack)


async def following(batches: AsyncIterator[Batch]) -> Batch:
    with anyio.fail_after(60.0):
        return await anext(batches)


def lock_files(path: Path) -> list[Path]:
    return list(path.with_name("registry.db-leases").iterdir())


def descriptors() -> int:
    return len(list(Path("/dev/fd").iterdir()))


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Another program holds the write lock for the length of the block."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield


# -- owners that die


async def test_a_kill_is_seen_at_once(store: LocalStore, owners: LocalHarness) -> None:
    lease = await owners.doomed_lease("a/1")
    after = (await store.list("a/")).revision
    async with store.watch("a/", after=after) as batches:
        killed_at = time.monotonic()
        await owners.kill_owner(lease)
        batch = await following(batches)
    assert batch.changes == (KeyValue("a/1", None),)
    assert time.monotonic() - killed_at < 1.0  # 0.05 on an idle machine
    assert lock_files(store._path) == []


async def test_a_listing_has_no_keys_of_the_dead(store: LocalStore, owners: LocalHarness) -> None:
    lease = await owners.doomed_lease("a/1")
    assert len((await store.list("a/")).items) == 1
    await owners.kill_owner(lease)
    await owners.ended(lease)
    assert (await store.list("a/")).items == ()


async def test_many_owners_die_together(store: LocalStore, owners: LocalHarness) -> None:
    leases = [await owners.doomed_lease(f"a/{n}", f"b/{n}") for n in range(4)]
    living = await store.grant(15.0)
    after = await store.put({"a/living": b"x"}, lease=living.lease)
    for lease in leases:
        await owners.kill_owner(lease)
    async with store.watch("", after=after) as batches:
        seen = [await following(batches) for _ in leases]
    assert sorted(len(batch.changes) for batch in seen) == [2, 2, 2, 2]
    assert [item.key for item in (await store.list("")).items] == ["a/living"]
    assert len(lock_files(store._path)) == 1


async def test_closing_a_store_ends_its_leases(store: LocalStore, other: LocalStore) -> None:
    lease = (await other.grant(15.0)).lease
    after = await other.put({"a": b"x"}, lease=lease)
    await other.aclose()
    async with store.watch("", after=after) as batches:
        assert (await following(batches)).changes == (KeyValue("a", None),)
    assert await other.renew(lease) == 0.0


async def test_a_lease_outlives_its_ttl_while_its_owner_lives(store: LocalStore) -> None:
    grant = await store.grant(0.001)
    await store.put({"a": b"x"}, lease=grant.lease)
    await anyio.sleep(0.01)
    assert await store.renew(grant.lease) == 0.001
    assert len((await store.list("")).items) == 1


async def test_a_forked_child_does_not_keep_its_parent_alive(store: LocalStore) -> None:
    program = """
import asyncio, os, pathlib, signal, sys, time
from meshkit.registry.local import LocalStore

async def main():
    store = LocalStore(pathlib.Path(sys.argv[1]))
    await store.put({"a": b"x"}, lease=(await store.grant(15.0)).lease)
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    print(child, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""
    async with python(program, store._path) as parent:
        child = int(await parent.stdout.receive())
        try:
            after = (await store.list("")).revision
            async with store.watch("", after=after) as batches:
                parent.kill()
                assert (await following(batches)).changes == (KeyValue("a", None),)
            os.kill(child, 0)  # it is still there
        finally:
            os.kill(child, 9)


async def test_a_forked_child_needs_a_store_of_its_own(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.put({"a": b"x"}, lease=0)
    real = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: real + 1)
    with pytest.raises(MeshClosedError, match="before fork"):
        await store.list("")


# -- many processes


async def test_eight_processes_write_at_once(store: LocalStore) -> None:
    program = """
import asyncio, pathlib, sys
from meshkit.registry.local import LocalStore

async def main():
    store = LocalStore(pathlib.Path(sys.argv[1]))
    for n in range(50):
        await store.put({f"a/{sys.argv[2]}": b"%d" % n}, lease=0)
    await store.aclose()

asyncio.run(main())
"""
    after = (await store.list("")).revision
    async with (
        contextlib.AsyncExitStack() as stack,
        store.watch("a/", after=after) as batches,
    ):
        writers = [
            await stack.enter_async_context(python(program, store._path, n)) for n in range(8)
        ]
        seen = [await following(batches) for _ in range(8 * 50)]
        assert [await writer.wait() for writer in writers] == [0] * 8
    assert [batch.revision for batch in seen] == list(range(after + 1, after + 401))
    for n in range(8):
        values = [b.changes[0].value for b in seen if b.changes[0].key == f"a/{n}"]
        assert values == [b"%d" % n for n in range(50)]


async def test_a_store_waits_for_another_writer(store: LocalStore) -> None:
    await store.put({"a": b"1"}, lease=0)
    async with anyio.create_task_group() as tasks:
        with writing(store._path):
            tasks.start_soon(store.delete, iter(["a"]))
            await anyio.wait_all_tasks_blocked()
            assert (await store.list("")).items[0].value == b"1"  # readers never wait
    assert (await store.list("")).items == ()


async def test_a_store_does_not_wait_for_ever(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_store, "_PATIENCE", 0.05)
    await store.put({"a": b"1"}, lease=0)
    with writing(store._path), pytest.raises(RegistryUnavailable, match="locked by other"):
        await store.put({"a": b"2"}, lease=0)


async def test_no_lock_file_is_made_while_another_process_may_sweep(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    monkeypatch.setattr(LeaseLocks, "take", lambda locks, lease: made.append(lease))
    await store.list("")
    async with anyio.create_task_group() as tasks:
        with writing(store._path):
            tasks.start_soon(store.grant, 1.0)
            await anyio.wait_all_tasks_blocked()
            assert made == []
    assert len(made) == 1


# -- the history


async def test_the_history_is_bounded(store: LocalStore) -> None:
    first = await store.put({"a": b""}, lease=0)
    for n in range(1001):
        await store.put({"b": b"%d" % n}, lease=0)
    with pytest.raises(Compacted):
        async with store.watch("a", after=first) as batches:
            await following(batches)
    async with store.watch("b", after=first + 1) as batches:
        assert (await following(batches)).revision == first + 2


async def test_a_watch_of_a_quiet_prefix_outlives_the_history(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = anyio.Event()
    since = Database.since

    def look(*args: Any, **kwargs: Any) -> tuple[int, tuple[Batch, ...]]:
        looked.set()
        return since(*args, **kwargs)

    async def follow(after: int) -> None:
        async with store.watch("a", after=after) as batches:
            await anext(batches)

    monkeypatch.setattr(Database, "since", look)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(follow, (await store.list("")).revision)
        for _ in range(3):
            for n in range(500):
                await store.put({"b": b"%d" % n}, lease=0)
            looked = anyio.Event()
            await looked.wait()
        await store.put({"a": b"x"}, lease=0)


# -- hands that delete, and other damage


async def test_a_deleted_file_is_made_again_and_watches_are_told(
    store: LocalStore, other: LocalStore
) -> None:
    lease = (await other.grant(15.0)).lease
    after = await other.put({"a": b"x"}, lease=lease)
    async with store.watch("", after=after - 1) as batches:
        await following(batches)
        shutil.rmtree(store._path.parent)
        assert await other.renew(lease) == 0.0
        with pytest.raises(RegistryUnavailable, match="deleted"):
            await following(batches)
    for n in range(3):
        await other.put({"b": b"%d" % n}, lease=(await other.grant(15.0)).lease)
    assert [item.key for item in (await store.list("")).items] == ["b"]
    with pytest.raises(Compacted):  # and not the new file's changes as if they followed the old
        async with store.watch("", after=after) as batches:
            await following(batches)


async def test_deleted_lock_files_end_leases_that_their_owner_grants_again(
    store: LocalStore, other: LocalStore
) -> None:
    lease = (await store.grant(15.0)).lease
    await store.put({"a": b"x"}, lease=lease)
    for file in lock_files(store._path):
        file.unlink()
    assert (await other.list("")).items == ()
    assert await store.renew(lease) == 0.0
    again = await store.grant(15.0)
    await store.put({"a": b"x"}, lease=again.lease)
    assert len((await other.list("")).items) == 1
    assert len(store._database._locks._ours) == 1


async def test_a_deleted_directory_of_locks_is_made_again(store: LocalStore) -> None:
    lease = (await store.grant(15.0)).lease
    await store.put({"a": b"x"}, lease=lease)
    before = descriptors()
    shutil.rmtree(store._path.with_name("registry.db-leases"))
    assert await store.renew(lease) == 0.0
    assert await store.renew((await store.grant(15.0)).lease) == 15.0
    assert descriptors() == before


async def test_files_that_nobody_holds_are_swept(store: LocalStore, owners: LocalHarness) -> None:
    doomed = await owners.doomed_lease("a")
    living = (await store.grant(15.0)).lease
    orphan = store._path.with_name("registry.db-leases") / "dead"
    orphan.touch()
    await owners.kill_owner(doomed)
    await owners.ended(doomed)
    assert (await store.list("")).items == ()
    assert [file.name for file in lock_files(store._path)] == [f"{living:x}"]


async def test_closing_a_store_breaks_its_watches(store: LocalStore) -> None:
    after = await store.put({"a": b"1"}, lease=0)
    await store.put({"a": b"2"}, lease=0)
    async with store.watch("", after=after) as batches:
        await following(batches)
        await store.aclose()
        with pytest.raises(RegistryUnavailable, match=f"^{store._path} was closed"):
            await following(batches)
    assert store._database is None


async def test_revoking_and_closing_leave_no_descriptor(path: Path) -> None:
    before = descriptors()
    store = LocalStore(path)
    await store.put({"a": b"x"}, lease=(await store.grant(15.0)).lease)
    opened = descriptors()
    assert opened > before
    await store.revoke((await store.grant(15.0)).lease)
    assert descriptors() == opened
    await store.aclose()
    assert descriptors() == before


@pytest.mark.parametrize("content", [b"not a database" * 100, b"SQLite format 3\0" + b"x" * 5000])
async def test_a_damaged_file_is_named_with_what_to_do(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    before = descriptors()
    store = LocalStore(path)
    with pytest.raises(RegistryError, match=r"registry\.db is damaged .* delete it") as caught:
        await store.list("")
    assert not isinstance(caught.value, RegistryUnavailable)
    assert descriptors() == before
    path.unlink()
    assert (await store.list("")).items == ()
    await store.aclose()


async def test_a_database_of_another_program_is_left_alone(store: LocalStore) -> None:
    store._path.parent.mkdir()
    with contextlib.closing(sqlite3.connect(store._path)) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    with pytest.raises(RegistryError, match="not a registry"):
        await store.list("")


async def test_a_registry_of_another_version_is_left_alone(store: LocalStore) -> None:
    await store.list("")
    await store.aclose()
    with contextlib.closing(sqlite3.connect(store._path)) as connection:
        connection.execute("PRAGMA user_version = 7")
    with pytest.raises(RegistryError, match="not a registry of this version"):
        await store.list("")


async def test_a_full_disk_is_an_outage(store: LocalStore) -> None:
    await store.list("")
    store._database._connection.execute("PRAGMA max_page_count = 1")
    with pytest.raises(RegistryUnavailable, match="full"):
        await store.put({"a": bytes(100_000)}, lease=0)
    assert (await store.list("")).items == ()


async def test_a_lease_that_cannot_be_written_leaves_no_lock(store: LocalStore) -> None:
    await store.list("")
    store._database._connection.execute(
        "CREATE TEMP TRIGGER refuse BEFORE INSERT ON leases BEGIN SELECT RAISE(ABORT, 'no'); END"
    )
    with pytest.raises(RegistryUnavailable, match="no"):
        await store.grant(15.0)
    assert lock_files(store._path) == []
    assert store._database._locks._ours == {}


async def test_a_lock_that_cannot_be_probed_is_not_taken_for_free(
    store: LocalStore, other: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.put({"a": b"x"}, lease=(await store.grant(15.0)).lease)
    await other.list("")

    def refuse(*args: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        with pytest.raises(RegistryUnavailable, match="Too many open files"):
            await other.list("")
    assert len((await other.list("")).items) == 1


# -- the place


def test_the_default_is_in_the_runtime_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert default_path() == tmp_path / "meshkit" / "registry.db"
    assert LocalStore().name == f"local://{tmp_path}/meshkit/registry.db"


@pytest.mark.parametrize("runtime", ["", "/nowhere/at/all"])
def test_without_a_runtime_directory_the_default_is_a_temporary_one(
    runtime: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert default_path() == tmp_path / f"meshkit-{os.getuid()}" / "registry.db"


async def test_the_directories_are_for_this_user_alone(store: LocalStore) -> None:
    await store.list("")
    for directory in (store._path.parent, store._path.with_name("registry.db-leases")):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700


async def test_what_belongs_to_another_user_is_refused(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.list("")
    await store.aclose()
    me = os.getuid()
    monkeypatch.setattr(owner, "_trusted", lambda: {me + 1})
    with pytest.raises(ConfigError, match=f"belongs to user {me}; .*local:///path"):
        await store.list("")


async def test_a_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"file.*: Not a directory; .*local:///path"):
        await LocalStore(tmp_path / "file" / "inner" / "registry.db").list("")


async def test_a_directory_that_cannot_be_written_is_refused(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *args: False)  # root may write anywhere
    with pytest.raises(ConfigError, match=r"cannot be written; .*local:///path"):
        await store.list("")


def test_a_system_without_file_locks_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with pytest.raises(ConfigError, match="POSIX file locks"):
        LocalStore(path)
