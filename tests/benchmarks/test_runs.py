"""The benchmarks run; what they find is not judged here."""

import subprocess
import sys

import pytest

from benchmarks import picks
from benchmarks.channels import policies
from meshkit.testing import find_etcd


def test_tails_of_a_failing_server(tmp_path):
    """Without Go, so that nothing is built: Python's server behaves the same."""
    command = "-m benchmarks tails --case d --clients 2 --rounds 1 --seconds 0.5 --policy"
    run = subprocess.run(
        [sys.executable, *command.split(), "meshkit (default),grpc round_robin"],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    [in_turn] = [line for line in run.stdout.splitlines() if line.startswith("grpc")]
    *_, odd_share, failed, _ = in_turn.split()
    assert 5.0 < float(odd_share.rstrip("%")) < 20.0
    assert 5.0 < float(failed.rstrip("%")) < 20.0
    assert "target: odd_share < 0.02" in run.stdout


def test_every_policy_has_its_line_of_picks(monkeypatch, capsys):
    monkeypatch.setattr(picks, "SIZES", (3, 30))
    monkeypatch.setattr(picks, "CALLS", picks.CALLS[:100])
    picks.measure_picks()
    printed = capsys.readouterr().out
    assert policies()
    assert all(f"\n{name} " in printed for name in policies())


@pytest.mark.envoy
@pytest.mark.timeout(120)
def test_the_table_of_models(tmp_path):
    """Each model has its line; which of them need a program that lives says the last column."""
    if find_etcd() is None:
        pytest.skip("no etcd here")
    command = [sys.executable, "-m", "benchmarks", *["models", "--rounds", "1", "--seconds", "0.1"]]
    run = subprocess.run(
        command, env={"PATH": str(tmp_path)}, capture_output=True, text=True, timeout=100
    )
    assert run.returncode == 0, run.stderr
    rows = [line.strip("| ").split(" | ") for line in run.stdout.splitlines() if line[:1] == "|"]
    failed = {name: calls for name, *_, calls in rows[2:]}
    survive = {"2, native channel", "3, gRPC's own xDS"}
    assert survive <= failed.keys()
    for name, calls in failed.items():
        assert calls.startswith("none of" if name in survive else "100%"), run.stdout
