"""The registry of a scenario: one etcd or three, and what somebody does to it by hand."""

from __future__ import annotations

import base64
import ipaddress
import json
import time
import urllib.request
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Concatenate, Final, ParamSpec, Self, TypeVar

from anyio.from_thread import BlockingPortal, start_blocking_portal

from meshkit.testing.cluster import etcd_cluster
from meshkit.testing.etcd import EtcdProcess
from meshkit.testing.proxy import TcpProxy
from tests.faults.peers import PeerNetwork

__all__ = ["SERVICE", "Entry", "Registry", "Setup"]

P = ParamSpec("P")
T = TypeVar("T")

SERVICE: Final = "echo"
_PREFIX: Final = f"meshkit/default/{SERVICE}/"
_ANSWER: Final = 1.0  # seconds
_MOST_OPS: Final = 128  # of one transaction
_PATIENCE: Final = 10.0  # seconds, for what has to be answered
_ELECTION: Final = 60.0  # seconds in which a cluster must have a leader again


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What a registry is.

    Attributes:
        members: one, or three.
        proxied: whether servers and clients reach it through a proxy (a single one only).
        severable: whether members can be cut off from each other.
        token_ttl: seconds that an auth token lives, whole ones; 0: nobody has to log in.
        late: it is not there before it is started by the scenario.
    """

    members: int = 1
    proxied: bool = False
    severable: bool = False
    token_ttl: int = 0
    late: bool = False


@dataclass(frozen=True)
class Entry:
    """A key below the service's prefix. `name`: what the scenario calls it, "" for garbage."""

    key: str
    lease: int
    value: bytes

    @property
    def name(self) -> str:
        try:
            name = json.loads(self.value)["Metadata"]["labels"]["name"]
        except (ValueError, LookupError, TypeError, RecursionError):
            return ""
        return name if isinstance(name, str) else ""


class Registry:
    """A registry, running for the length of a block."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.url = ""
        self._stack = ExitStack()
        self._portal: BlockingPortal
        self._token = ""
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def __enter__(self) -> Self:
        with self._stack:
            if self.setup.proxied or self.setup.severable:
                self._portal = self._stack.enter_context(start_blocking_portal())
            self.members = self._make()
            self._answering = self.members[0]
            if self.setup.token_ttl:
                self._guard()
            endpoints = ",".join(member.endpoint for member in self.members)
            if self.setup.proxied:
                self._proxy = self._open(TcpProxy(endpoints))
                endpoints = self._proxy.address
            self.url = f"etcd://{'root:r00t@' if self.setup.token_ttl else ''}{endpoints}"
            self._stack = self._stack.pop_all()
        return self

    def _open(self, block: AbstractAsyncContextManager[T]) -> T:
        """Enter a block whose event loop runs beside us."""
        return self._stack.enter_context(self._portal.wrap_async_context_manager(block))

    def _make(self) -> list[EtcdProcess]:
        if self.setup.severable:
            self._network = self._open(PeerNetwork(self.setup.members))
            return self._network.members
        if self.setup.members > 1:
            return self._stack.enter_context(etcd_cluster(self.setup.members))
        flags = ("--auth-token-ttl", f"{self.setup.token_ttl}") if self.setup.token_ttl else ()
        etcd = EtcdProcess(flags=flags)
        self._stack.callback(etcd.stop)
        if not self.setup.late:
            etcd.start()
        return [etcd]

    def _guard(self) -> None:
        for path, body in {
            "auth/user/add": {"name": "root", "password": "r00t"},
            "auth/role/add": {"name": "root"},
            "auth/user/grant": {"user": "root", "role": "root"},
            "auth/enable": {},
        }.items():
            self._post(self.members[0], path, body, within=_PATIENCE)  # bcrypt takes its time

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    # ---- what it holds

    def insist(self, path: str, **body: object) -> dict[str, Any]:
        """What etcd answers in the end; OSError if it does not, for longer than an election takes.

        A request may be obeyed more than once, and late.
        """
        deadline = time.monotonic() + _ELECTION
        while True:
            try:
                return self.ask(path, **body)
            except OSError:  # it is away, or the machine has other things to do
                if time.monotonic() > deadline:
                    raise

    def ask(self, path: str, **body: object) -> dict[str, Any]:
        """What etcd answers at once; OSError if no member does."""
        # The one that answered last comes first: others may be frozen, and cost time.
        for member in sorted(self.members, key=lambda member: member is not self._answering):
            try:
                answer = self._post(member, path, body)
            except OSError as error:
                last = error
                self._token = ""  # etcd may have forgotten it
            else:
                self._answering = member
                return answer
        raise last

    def _post(
        self, member: EtcdProcess, path: str, body: Mapping[str, object], within: float = _ANSWER
    ) -> dict[str, Any]:
        headers = {}
        if self.url.startswith("etcd://root") and path != "auth/authenticate":
            login = {"name": "root", "password": "r00t"}
            self._token = (
                self._token or self._post(member, "auth/authenticate", login, _PATIENCE)["token"]
            )
            headers["Authorization"] = self._token
        request = urllib.request.Request(
            f"http://{member.endpoint}/v3/{path}", json.dumps(body).encode(), headers
        )
        with self._opener.open(request, timeout=within) as answer:
            return dict(json.load(answer))

    def entries(self) -> list[Entry]:
        """All keys of the service, as etcd itself answers in the end."""
        return self._entries(self.insist)

    def _entries(self, ask: Callable[..., dict[str, Any]]) -> list[Entry]:
        found = ask("kv/range", key=_b64(_PREFIX), range_end=_b64(_PREFIX[:-1] + "0"))
        return [
            Entry(
                key=base64.b64decode(entry["key"]).decode().removeprefix(_PREFIX),
                lease=int(entry.get("lease", 0)),
                value=base64.b64decode(entry.get("value", "")),
            )
            for entry in found.get("kvs", [])
        ]

    def names(self) -> list[str]:
        """What is announced there, with repetitions, sorted; garbage is left out.

        As etcd itself answers now; OSError if it does not.
        """
        return sorted(entry.name for entry in self._entries(self.ask) if entry.name)

    # ---- what somebody does by hand

    def put(self, key: str, value: bytes | str, lease: int = 0) -> int:
        """Write below the service's prefix; the revision of it."""
        answer = self.insist("kv/put", key=_b64(_PREFIX + key), value=_b64(value), lease=lease)
        return int(answer["header"]["revision"])

    def configure(self, config: str) -> float:
        """Publish a service config, good or bad; the time before."""
        before = time.monotonic()
        self.ask("kv/put", key=_b64(_PREFIX.rstrip("/")), value=_b64(config))
        return before

    def announce(self, key: str, lease: int = 0) -> int:
        """Write an endpoint that is called as its key is, and is not there; the revision of it."""
        return self.put(key, _nobody(key), lease)

    def announce_all(self, keys: Sequence[str]) -> None:
        """The same for many, in as few requests as etcd takes."""
        for some in (keys[i : i + _MOST_OPS] for i in range(0, len(keys), _MOST_OPS)):
            puts = [{"key": _b64(_PREFIX + key), "value": _b64(_nobody(key))} for key in some]
            self.insist("kv/txn", success=[{"requestPut": put} for put in puts])

    def erase(self, key: str, before: str = "") -> None:
        """Delete a key below the service's prefix, or all from it on and `before` another one."""
        end = {"range_end": _b64(_PREFIX + before)} if before else {}
        self.insist("kv/deleterange", key=_b64(_PREFIX + key), **end)

    def tell_news(self, key: str) -> float:
        """Announce `key` as soon as etcd takes it; the time at which it did."""
        self.announce(key)
        return time.monotonic()

    def link(
        self, fault: Callable[Concatenate[TcpProxy, P], None], *args: P.args, **kwargs: P.kwargs
    ) -> None:
        """Hurt the way to it: `link(TcpProxy.delay, 0.3)`."""
        self._portal.call(lambda: fault(self._proxy, *args, **kwargs))

    # ---- members

    def leader(self) -> EtcdProcess:
        """The member that leads, as soon as there is one."""
        deadline = time.monotonic() + _ELECTION
        while time.monotonic() < deadline:
            for member in filter(self._leads, self.members):
                return member
        raise RuntimeError("there is no leader")

    def _leads(self, member: EtcdProcess) -> bool:
        try:
            status = self._post(member, "maintenance/status", {})
        except OSError:
            return False
        return bool(status["leader"] == status["header"]["member_id"])

    def member_in_use(self) -> EtcdProcess:
        """The member that most watch; of two equal ones the one that does not lead."""
        leader = self.leader()
        return max(self.members, key=lambda member: (self._watchers(member), member is not leader))

    def _watchers(self, member: EtcdProcess) -> float:
        with self._opener.open(f"http://{member.endpoint}/metrics", timeout=_PATIENCE) as answer:
            lines = answer.read().decode().splitlines()
        return next(
            float(line.split()[1])
            for line in lines
            if line.startswith("etcd_debugging_mvcc_watcher_total ")
        )

    def cut_off(self, member: EtcdProcess) -> None:
        """Leave `member` to itself: neither it nor the others hear of each other until `rejoin`."""
        # Asked in vain, it would keep what it was asked for, and pass it on when it is back.
        self._answering = next(other for other in self.members if other is not member)
        self._portal.call(self._network.cut_off, member)

    def rejoin(self) -> None:
        """Let all members hear each other again."""
        self._portal.call(self._network.heal)


def _b64(text: bytes | str) -> str:
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


def _nobody(key: str) -> str:
    """An endpoint at an address of its own, where nobody listens."""
    address = ipaddress.ip_address("127.0.0.0") + (zlib.crc32(key.encode()) & 0xFFFFFF)
    return json.dumps({"Op": 0, "Addr": f"{address}:1", "Metadata": {"labels": {"name": key}}})
