"""The commands of the pages, run as they stand; what they print has the shape that is shown."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from meshkit.testing.etcd import EtcdProcess, find_etcd, free_ports
from tests.docs.markdown import ROOT, blocks
from tests.docs.shell import Shell, commands
from tests.docs.test_pages import CONSOLE_PAGES, excused

SERVER = ".venv/bin/python -m examples.hello.server --port 50001"
CLIENT = ".venv/bin/python -m examples.hello.client"


def _ports() -> dict[str, str]:
    """Free ports for those of the pages, which others may use on this machine."""
    return {
        f"5000{number}": str(port) for number, port in enumerate(free_ports(3), 1)
    }  # fmt: skip


def _tools(folder: Path) -> None:
    """etcdctl where the shell finds it."""
    etcd = find_etcd()
    if etcd is None:
        pytest.skip("no etcd here")
    etcdctl = etcd.resolve().with_name("etcdctl")
    if not etcdctl.is_file():
        pytest.skip("no etcdctl beside etcd")
    (folder / "bin").mkdir()
    (folder / "bin/etcdctl").symlink_to(etcdctl)


@pytest.mark.etcd
@pytest.mark.timeout(120)
@pytest.mark.parametrize("page", CONSOLE_PAGES)
def test_commands(page: str, tmp_path: Path) -> None:
    for block in blocks(page):
        if block.file is not None:
            (tmp_path / block.file).write_text(block.text, encoding="utf-8")
    _tools(tmp_path)
    # One of its own: users are added, and authentication is switched on.
    with EtcdProcess() as etcd, Shell(
        tmp_path, {**_ports(), "127.0.0.1:2379": etcd.endpoint}
    ) as shell:  # fmt: skip
        shell.run(f"export PATH={tmp_path}/bin:$PATH ETCDCTL_ENDPOINTS={etcd.endpoint}", "")
        ran = 0
        for block in blocks(page):
            if block.language != "console" or excused(commands(block)[0][0]):
                continue
            for command, shown in commands(block):
                shell.run(command, shown, perhaps=block.perhaps)
                ran += 1
    assert ran


def test_two_terminals_of_the_readme(tmp_path: Path) -> None:
    readme = ROOT.joinpath("README.md").read_text("utf-8")
    assert f"$ {SERVER} " in readme
    assert f"$ {CLIENT} " in readme
    shown = re.findall(r"^(?:serving|\d\d:\d\d).*$", readme, re.MULTILINE)
    assert len(shown) == 3
    with Shell(tmp_path, _ports()) as shell:
        shell.run(f"{SERVER} | grep --line-buffered serving &", f"{shown[0]}\n")
        shell.run(f"{CLIENT} --count 2 --interval 0.1 | sed -n 1,2p", "\n".join(shown[1:]))
        shell.run("kill %1", "")
