"""Backups of a single etcd, made with the tools that come with it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from meshkit.testing.etcd import EtcdProcess, find_etcd

__all__ = ["restore", "save"]


def save(etcd: EtcdProcess, backup: Path) -> None:
    """Write a backup of what it holds now."""
    _run("etcdctl", "--endpoints", etcd.endpoint, "snapshot", "save", f"{backup}")


def restore(etcd: EtcdProcess, backup: Path) -> None:
    """Exchange the data of an etcd that does not run."""
    data = f"{etcd._folder}/data"
    peer = f"http://127.0.0.1:{etcd._peer_port}"
    shutil.rmtree(data)
    _run(
        *("etcdutl", "snapshot", "restore", f"{backup}", "--data-dir", data),
        *("--initial-cluster", f"default={peer}", "--initial-advertise-peer-urls", peer),
    )


def _run(tool: str, *arguments: str) -> None:
    etcd = find_etcd()
    assert etcd is not None
    command = [str(etcd.resolve().with_name(tool)), *arguments]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
