"""Files of the cache: what is written is read again, and nothing else is."""

import os
import stat
from pathlib import Path

import pytest

from meshkit.endpoint import Endpoint
from meshkit.registry import owner
from meshkit.registry.cache import Cache, CacheError, default_directory
from meshkit.registry.layouts import MeshkitLayout
from meshkit.registry.store import KeyValue

P = "meshkit/default/hello/"
ENTRIES = {P + "a": b'{"Addr":"a:1"}', P + "b": '{"Addr":"b:1","x":"ü y"}'.encode()}
NOW = 1_000_000.0


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "cache" / "meshkit"


def a_cache(directory, scope="etcd://h:1", now=NOW):
    return Cache(directory, scope=scope, wall=lambda: now)


def test_what_is_saved_is_loaded_with_its_age(directory):
    a_cache(directory).save(P, ENTRIES)
    recalled = a_cache(directory, now=NOW + 3600).load(P)
    assert recalled.items == tuple(KeyValue(k, v) for k, v in ENTRIES.items())
    assert recalled.age == 3600
    assert a_cache(directory, now=NOW - 5).load(P).age == 0.0, "a clock that was set back"


def test_each_registry_layout_namespace_and_service_has_a_file_of_its_own(directory):
    a_cache(directory).save(P, ENTRIES)
    assert a_cache(directory).load("meshkit/default/hell/") is None
    assert a_cache(directory, "etcd://h:2").load(P) is None
    assert a_cache(directory / "other").load(P) is None


def test_files_are_for_this_user_alone(directory):
    cache = a_cache(directory)
    cache.save(P, ENTRIES)
    cache.save(P, {})
    assert cache.load(P).items == ()
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert [f.name for f in directory.iterdir()] == [cache.path(P).name], "nothing is left aside"
    assert stat.S_IMODE(cache.path(P).stat().st_mode) == 0o600


def test_touching_makes_it_younger(directory):
    a_cache(directory).save(P, ENTRIES)
    assert a_cache(directory, now=NOW + 60).touch(P)
    assert a_cache(directory, now=NOW + 61).load(P).age == 1
    assert not a_cache(directory).touch("meshkit/default/nobody/")


DAMAGES = {
    "empty": lambda text: b"",
    "cut short": lambda text: text[:-30],
    "cut in a line": lambda text: text[:-1],
    "a line less": lambda text: text[: text.rindex(b"\n", 0, -1) + 1],
    "a line more": lambda text: text + b"x y\n",
    "another version": lambda text: text.replace(b'"meshkit": 1', b'"meshkit": 2'),
    "of another registry": lambda text: text.replace(b"etcd://h:1", b"etcd://h:9"),
    "bytes": lambda text: bytes(range(256)),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_what_is_damaged_is_refused(directory, damage):
    cache = a_cache(directory)
    cache.save(P, ENTRIES)
    cache.path(P).write_bytes(damage(cache.path(P).read_bytes()))
    with pytest.raises(CacheError, match="damaged, or of another version"):
        cache.load(P)


def test_files_that_nobody_touched_for_a_month_are_deleted_by_the_first_save(directory):
    day = 86_400.0
    others = ["etcd://old:1", "etcd://kept:1"]
    for scope in others:
        a_cache(directory, scope).save(P, ENTRIES)
    (directory / "notes.txt").touch()
    os.utime(directory / "notes.txt", (0, 0))
    assert a_cache(directory, others[1], now=NOW + 2 * day).touch(P)
    cache = a_cache(directory, now=NOW + 31 * day)
    cache.save(P, ENTRIES)
    assert a_cache(directory, others[0]).load(P) is None
    assert a_cache(directory, others[1]).load(P) is not None
    assert cache.load(P) is not None
    assert (directory / "notes.txt").exists()
    a_cache(directory, others[0], now=NOW).save(P, ENTRIES)
    cache.save(P, ENTRIES)
    assert a_cache(directory, others[0]).load(P) is not None, "it looks once only"


@pytest.mark.parametrize("gone", ["stat", "unlink"])
def test_a_file_that_another_process_deletes_first_is_no_error(directory, monkeypatch, gone):
    a_cache(directory, "etcd://old:1").save(P, ENTRIES)
    cache = a_cache(directory, now=NOW + 31 * 86_400.0)
    old, real = a_cache(directory, "etcd://old:1").path(P), getattr(Path, gone)

    def faster(path, *args, **options):
        if path == old:
            real(path, *args, **options)
            raise FileNotFoundError(path)
        return real(path, *args, **options)

    monkeypatch.setattr(Path, gone, faster)
    cache.save(P, ENTRIES)
    assert cache.load(P) is not None


def test_what_is_too_long_is_neither_written_nor_read(directory):
    cache = a_cache(directory)
    cache.save(P, ENTRIES)
    with pytest.raises(CacheError, match="are more than"):
        cache.save(P, {P + str(n): bytes(1000) for n in range(5000)})
    assert len(cache.load(P).items) == 2
    with cache.path(P).open("ab") as file:
        file.truncate(5 << 20)
    with pytest.raises(CacheError, match="damaged"):
        cache.load(P)


def test_ten_thousand_endpoints_fit(directory):
    layout, cache = MeshkitLayout(), a_cache(directory)
    endpoints = (
        Endpoint(
            service="hello",
            id=f"{n:012x}",
            address=f"10.0.{n >> 8}.{n & 255}:50051",
            zone="eu-west-1a",
            version="1.24.3",
            keepalive=5.0,
            metadata={"team": "platform"},
        )
        for n in range(10_000)
    )
    cache.save(P, dict(layout.encode("default", e) for e in endpoints))
    assert len(cache.load(P).items) == 10_000


@pytest.mark.parametrize("which", ["directory", "file"])
def test_what_belongs_to_another_user_is_refused(directory, monkeypatch, which):
    cache = a_cache(directory)
    cache.save(P, ENTRIES)
    me = os.getuid()
    strange = directory if which == "directory" else cache.path(P)
    monkeypatch.setattr(
        "meshkit.registry.cache.stranger", lambda path: me + 1 if path == strange else None
    )
    with pytest.raises(CacheError, match=f"belongs to user {me + 1}"):
        cache.load(P)
    if which == "directory":
        with pytest.raises(CacheError, match="belongs to user"):
            cache.save(P, ENTRIES)


def test_a_directory_that_cannot_be_used_is_told(directory):
    directory.parent.mkdir()
    directory.write_bytes(b"")
    with pytest.raises(CacheError, match="exists"):
        a_cache(directory).save(P, ENTRIES)
    with pytest.raises(CacheError, match="Not a directory"):
        a_cache(directory).load(P)


def test_a_write_that_fails_leaves_nothing_behind(directory, monkeypatch):
    cache = a_cache(directory)
    cache.save(P, ENTRIES)

    def full(number):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(CacheError, match="No space left"):
        cache.save(P, {})
    assert len(cache.load(P).items) == 2
    assert len(list(directory.iterdir())) == 1


def test_where_users_are_not_told_apart_nobody_is_a_stranger(directory, monkeypatch):
    monkeypatch.delattr("os.getuid")
    assert owner.stranger(directory) is None
    assert default_directory({}).parts[-2:] == ("meshkit", "cache")


def test_the_default_directory():
    home = {"HOME": "/home/ada"}
    assert str(default_directory(home | {"XDG_CACHE_HOME": "/c"})) == "/c/meshkit"
    assert str(default_directory(home)) == "/home/ada/.cache/meshkit"
    assert default_directory({}).parts[-2:] == (f"meshkit-{os.getuid()}", "cache")


def test_what_is_forgotten_is_not_loaded(directory):
    cache = a_cache(directory)
    assert cache.forget(P), "nothing was there"
    cache.save(P, ENTRIES)
    assert cache.forget(P)
    assert cache.load(P) is None
    (directory / "file").touch()
    assert a_cache(directory / "file").forget(P), "nothing can be there"
    cache.path(P).mkdir()
    with pytest.raises(CacheError, match="directory"):
        cache.forget(P)
