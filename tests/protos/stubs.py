"""The Echo stubs of both generations, for tests that have to hold with either."""

import re
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import pytest
from packaging.version import Version

import tests.stubs_current
from meshkit._proto import echo_pb2, echo_pb2_grpc

CURRENT = Path(tests.stubs_current.__file__).parent


def shipped_stubs() -> tuple[ModuleType, ModuleType]:
    """Messages and stubs as meshkit ships them: made by the oldest supported grpcio-tools."""
    return echo_pb2, echo_pb2_grpc


def current_stubs() -> tuple[ModuleType, ModuleType]:
    """Messages and stubs of the newest grpcio-tools; skips where the installed grpcio is older."""
    for package, wanted in demands(CURRENT).items():
        if Version(version(package)) < Version(wanted):
            pytest.skip(f"these stubs demand {package}>={wanted}, installed is {version(package)}")

    from tests.stubs_current import echo_pb2, echo_pb2_grpc

    return echo_pb2, echo_pb2_grpc


def demands(directory: Path) -> dict[str, str]:
    """What the generated code in `directory` refuses to be imported without."""
    messages = (directory / "echo_pb2.py").read_text()
    stubs = (directory / "echo_pb2_grpc.py").read_text()
    return {
        "grpcio": re.search(r"^GRPC_GENERATED_VERSION = '(.+)'$", stubs, re.MULTILINE)[1],
        "protobuf": re.search(r"^# Protobuf Python Version: (.+)$", messages, re.MULTILINE)[1],
    }
