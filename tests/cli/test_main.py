"""The command line as a shell sees it: output, errors, exit codes."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys

import pytest

from meshkit.cli.command import Exit, add_command, add_group
from meshkit.cli.main import main, parser
from meshkit.cli.options import add_registry_options, mesh_of
from meshkit.errors import RegistryUnavailable


def test_help_of_every_command_can_be_printed(capsys) -> None:
    for words in ([], ["xds"], ["xds", "bootstrap"], ["dns"], ["dns", "serve"]):
        with pytest.raises(SystemExit) as ended:
            main([*words, "--help"])
        assert ended.value.code == Exit.OK
        assert "usage: meshkit" in capsys.readouterr().out


def test_an_unknown_command_is_wrong_usage(capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["fly"])
    assert ended.value.code == Exit.USAGE
    assert "fly" in capsys.readouterr().err


def test_a_config_error_is_wrong_usage_and_says_why(capsys) -> None:
    assert main(["xds", "bootstrap", "--server", "nowhere"]) == Exit.USAGE
    assert capsys.readouterr().err == "meshkit: error: 'nowhere' has no port: need host:port\n"


@pytest.mark.parametrize(
    ("raised", "code"),
    [(RegistryUnavailable("down"), Exit.UNREACHABLE), (KeyboardInterrupt(), 130)],
)
def test_how_a_command_ends(raised, code, monkeypatch, capsys) -> None:
    async def run(options: argparse.Namespace) -> Exit:
        raise raised

    def failing() -> argparse.ArgumentParser:
        top = argparse.ArgumentParser()
        top.add_argument("--log-level", default="error")
        add_command(add_group(top.add_subparsers(), "group", "one"), "fail", run, "fails")
        return top

    monkeypatch.setattr("meshkit.cli.main.parser", failing)
    assert main(["group", "fail"]) == code


def test_a_reader_that_has_enough_is_no_traceback() -> None:
    command = [sys.executable, "-m", "meshkit", "xds", "bootstrap"]
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:
        done = subprocess.run(command, stdout=closed, stderr=subprocess.PIPE, check=False)
    assert done.returncode == Exit.FAILED
    assert done.stderr == b""


def test_the_registry_options_say_which_mesh() -> None:
    taken = argparse.ArgumentParser()
    add_registry_options(taken)
    mesh = mesh_of(taken.parse_args(["--registry", "memory://cli", "--namespace", "blue"]))
    assert repr(mesh) == "<Mesh memory://cli 'blue' closed>"


def test_bootstrap_for_grpc(capsys) -> None:
    words = ["xds", "bootstrap", "--server", "a:1", "--server", "b:2", "--node", "n", "--zone", "z"]
    assert main(words) == Exit.OK
    document = json.loads(capsys.readouterr().out)
    assert [server["server_uri"] for server in document["xds_servers"]] == ["a:1", "b:2"]
    assert document["node"] == {"id": "n", "cluster": "meshkit", "locality": {"zone": "z"}}


def test_bootstrap_for_envoy(capsys) -> None:
    words = ["xds", "bootstrap", "--envoy", "--listen", "0.0.0.0:80", "--listen", "a=127.0.0.1:81"]
    assert main([*words, "--service", "a", "--sotw", "--admin", "127.0.0.1:9901"]) == Exit.OK
    document = json.loads(capsys.readouterr().out)
    assert document["node"]["metadata"]["meshkit"] == {
        "ports": [{"address": "0.0.0.0:80"}, {"address": "127.0.0.1:81", "service": "a"}],
        "services": ["a"],
    }
    assert document["dynamic_resources"]["ads_config"]["api_type"] == "GRPC"


def test_all_options_are_explained() -> None:
    def parsers(top):
        yield top
        for action in top._actions:
            if isinstance(action, argparse._SubParsersAction):
                for below in action.choices.values():
                    yield from parsers(below)

    for each in parsers(parser()):
        assert each.description
        for action in each._actions:
            assert action.help or isinstance(action, argparse._SubParsersAction), action
