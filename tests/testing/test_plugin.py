"""The pytest plugin, in a pytest of its own: what a user's test gets, and what it costs others."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TESTS = """
import asyncio

import pytest

from meshkit import Mesh
from meshkit.testing import memory_registry

seen = set()


@pytest.mark.parametrize("what", ["a/b", "ü ?&#"])
def test_a_registry_of_its_own(what, mesh_url, mesh_registry):
    assert mesh_url.startswith("memory://test_a_registry_of_its_own-")
    assert memory_registry(mesh_url) is mesh_registry
    assert not mesh_registry.entries()
    mesh_registry.overwrite("key", b"value")
    assert mesh_url not in seen
    seen.add(mesh_url)


def test_behind_the_url(mesh_url, mesh_registry):
    async def main():
        async with Mesh(mesh_url) as mesh, mesh.register("hello", "10.0.0.1:1"):
            assert len(mesh_registry.entries()) == 1

    asyncio.run(main())


def test_a_real_etcd(etcd_url):
    assert etcd_url.startswith("etcd://127.0.0.1:")
"""

NO_ETCD = """
import meshkit.testing

meshkit.testing.find_etcd = lambda: None
"""


def run_pytest(folder: Path, *flags: str) -> str:
    (folder / "test_user.py").write_text(TESTS, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-W", "error", "-rs", *flags, str(folder)]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=60
    ).stdout


@pytest.mark.etcd
def test_its_fixtures(tmp_path: Path) -> None:
    told = run_pytest(tmp_path)
    assert "4 passed" in told, told


def test_without_an_etcd_and_without_plugins_for_coroutines(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(NO_ETCD, encoding="utf-8")
    told = run_pytest(tmp_path, "-p", "no:anyio", "-p", "no:asyncio")
    assert "3 passed, 1 skipped" in told, told
    assert "no etcd found; install meshkit[etcd-dev] or set MESHKIT_ETCD_BIN" in told


def test_costs_nothing_at_the_start_of_other_people_s_tests() -> None:
    code = """
import sys
import importlib.metadata
import pytest
before = set(sys.modules)
(plugin,) = importlib.metadata.entry_points(group="pytest11", name="meshkit")
plugin.load()
heavy = {name.partition(".")[0] for name in sys.modules.keys() - before} & {
    "meshkit", "grpc", "google", "anyio", "asyncio", "structlog"
}
sys.exit(str(heavy) if heavy else 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
