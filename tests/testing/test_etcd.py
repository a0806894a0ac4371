import os
import select
import signal
import socket
import stat
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from meshkit.errors import ConfigError
from meshkit.testing import cluster
from meshkit.testing import etcd as module
from meshkit.testing.cluster import etcd_cluster
from meshkit.testing.etcd import EtcdProcess, find_etcd, free_ports

pytestmark = pytest.mark.etcd


def script(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def is_up(process: EtcdProcess) -> bool:
    try:
        socket.create_connection(("127.0.0.1", process._port), timeout=1).close()
    except OSError:
        return False
    return True


def test_named_binary_wins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    named = script(tmp_path / "my-etcd", "#!/bin/sh")
    monkeypatch.setenv("MESHKIT_ETCD_BIN", str(named))
    assert find_etcd() == named
    monkeypatch.setenv("MESHKIT_ETCD_BIN", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="none"):
        find_etcd()


def test_etcd_on_path_only_if_it_is_one_and_new_enough(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("MESHKIT_ETCD_BIN", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    packaged = find_etcd()
    wrapper = script(tmp_path / "etcd", f"#!{sys.executable}", "raise SystemExit('called')")
    assert find_etcd() == packaged
    monkeypatch.setattr(module, "_is_script", lambda path: False)
    for version, expected in ((b"3.4.21", packaged), (b"3.4.22", wrapper), (b"nonsense", packaged)):
        script(wrapper, "#!/bin/sh", f"echo etcd Version: {version.decode()}")
        module._version.cache_clear()
        assert find_etcd() == expected
    module._version.cache_clear()


def test_no_etcd_at_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MESHKIT_ETCD_BIN", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    assert find_etcd() is None
    with pytest.raises(ConfigError, match="etcd-dev"):
        EtcdProcess()


def test_life_of_a_process() -> None:
    with EtcdProcess() as process:
        first, endpoint, folder = process.pid, process.endpoint, process._folder
        assert process.url == f"etcd://{endpoint}"
        with pytest.raises(RuntimeError, match="already"):
            process.launch()
        process.kill()
        assert not is_up(process)
        with pytest.raises(RuntimeError, match="does not run"):
            _ = process.pid
        process.restart()
        assert is_up(process)
        assert (process.endpoint, process._folder) == (endpoint, folder)
        assert process.pid != first
        process.pause()
        pid = process.pid
    assert not Path(f"/proc/{pid}").exists()
    assert not folder.exists()
    process.stop()


def test_frozen_process_answers_after_resume() -> None:
    with EtcdProcess() as process:
        url = f"http://{process.endpoint}/version"
        process.pause()
        with pytest.raises(OSError, match="timed out"):
            urllib.request.urlopen(url, timeout=0.3)
        process.resume()
        assert b"etcdserver" in urllib.request.urlopen(url, timeout=5).read()


def test_start_that_fails_says_why_and_leaves_nothing() -> None:
    process = EtcdProcess(flags=("--no-such-flag",))
    with pytest.raises(RuntimeError, match="no-such-flag"):
        process.start()
    assert process._folder is None


def test_taken_port_is_exchanged() -> None:
    process = EtcdProcess()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        process._port = taken.getsockname()[1]
        with process:
            assert process._port != taken.getsockname()[1]
            assert is_up(process)


def test_stubborn_process_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_STOP_WITHIN", 0.0)
    with EtcdProcess() as process:
        pid = process.pid
    assert not Path(f"/proc/{pid}").exists()


def test_cluster_of_three() -> None:
    with etcd_cluster() as members:
        assert len({member.endpoint for member in members}) == 3
        assert all(map(is_up, members))
    assert not any(map(is_up, members))


def test_taken_ports_of_a_cluster_are_exchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ports = iter([(port,), free_ports(1)])
        monkeypatch.setattr(cluster, "free_ports", lambda _: next(ports))
        with etcd_cluster(1) as [member]:
            assert is_up(member)
        monkeypatch.setattr(cluster, "free_ports", lambda _: (port,))
        with pytest.raises(RuntimeError, match="already in use"), etcd_cluster(1):
            pass


@pytest.mark.skipif(sys.platform != "linux", reason="prctl")
def test_it_dies_with_its_program(tmp_path: Path) -> None:
    program = """
import sys, threading
from meshkit.testing.etcd import EtcdProcess
process = EtcdProcess()
starter = threading.Thread(target=process.start)  # its end must not be etcd's
starter.start(); starter.join()
print(process.pid, flush=True)
sys.stdin.read()
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"TMPDIR": str(tmp_path)},  # nobody is left to remove the data
    )
    with parent:
        pid = int(parent.stdout.readline())
        watched = os.pidfd_open(pid)
        assert Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        assert select.select([watched], [], [], 5)[0], "readable once the process has ended"
        os.close(watched)


def test_one_that_ends_by_itself_says_how() -> None:
    process = EtcdProcess(flags=("--log-level", "info"))
    assert (process.exit_status, process.last_words) == (None, "")
    with process:
        assert process.exit_status is None
        os.kill(process.pid, signal.SIGTERM)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert process.exit_status is not None
        assert "closed etcd server" in process.last_words
        process.restart()
        assert process.exit_status is None
        assert is_up(process)
    assert (process.exit_status, process.last_words) == (None, "")


def test_free_ports_are_different() -> None:
    assert len(set(free_ports(20))) == 20
