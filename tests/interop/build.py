"""Builds the programs in Go; `python -m tests.interop.build` does so before tests ask for them."""

import fcntl
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.interop.programs import FRAMEWORKS

ROOT = Path(__file__).parents[2]
SOURCES = Path(__file__).parent / "go"
BUILD = ROOT / "build" / "interop"

# Not here: Go, the Go that the modules ask for, or the modules.
_ABSENT = re.compile(r"requires go >=|https?://|GOPROXY=off")


class AbsentError(Exception):
    """They cannot be built here."""


@contextmanager
def alone() -> Iterator[None]:
    """One process at a time fetches things; the others find them there."""
    BUILD.mkdir(parents=True, exist_ok=True)
    with (BUILD / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def build_programs() -> Path:
    """The folder of the programs of the frameworks, and of gRPC's xDS client."""
    # Kubernetes, which go-zero could ask too, is half of all that would have to be compiled.
    packages = ["-tags=no_k8s", "./xds", *(f"./{framework.program}" for framework in FRAMEWORKS)]
    return _build(SOURCES, *packages)


def build_greeting() -> Path:
    """The program of examples/three_models."""
    return _build(ROOT / "examples" / "three_models" / "go", ".") / "greeting"


def _build(sources: Path, *packages: str) -> Path:
    go = shutil.which("go") or shutil.which("/usr/local/go/bin/go")
    if go is None:
        raise AbsentError("there is no Go here")
    fetched = _run(sources, go, "list", "-deps", *packages)
    if fetched.returncode and _ABSENT.search(fetched.stderr):
        raise AbsentError(f"Go cannot get the modules: {fetched.stderr.splitlines()[-1]}")
    assert not fetched.returncode, fetched.stderr
    folder = BUILD / "bin"
    folder.mkdir(parents=True, exist_ok=True)
    built = _run(sources, go, "build", "-trimpath", "-ldflags=-s -w", f"-o={folder}/", *packages)
    assert not built.returncode, built.stderr
    return folder


def _run(sources: Path, *command: str) -> subprocess.CompletedProcess[str]:
    own = {
        "GOCACHE": str(BUILD / "cache"),
        "GOMODCACHE": str(BUILD / "modules"),
        "GOFLAGS": "-modcacherw -buildvcs=false",  # `make clean` has to be able to remove them
        "GOTOOLCHAIN": "local",
    }
    return subprocess.run(
        command,
        cwd=sources,
        env=os.environ | own,
        capture_output=True,
        text=True,
        check=False,
    )


if __name__ == "__main__":
    try:
        build_programs()
        build_greeting()
    except AbsentError as error:
        sys.exit(f"nothing is built: {error}")
