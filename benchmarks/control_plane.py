"""How long after a change in the registry the first call is answered by the new endpoint.

Two servers, and a service of which one key in etcd names the one or the other: the key is written
with the other's address, and calls are made one after the other until that answers. Through
meshkit's own channel, a channel of gRPC's own xDS client, and an Envoy, in turn.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager

import grpc

from benchmarks.fanout import allow_connections, measure_fanout
from benchmarks.figures import percentile, spread, verdict
from benchmarks.processes import running
from examples.hello.helloworld_pb2 import HelloReply, HelloRequest
from examples.hello.helloworld_pb2_grpc import (
    GreeterServicer,
    GreeterStub,
    add_GreeterServicer_to_server,
)
from meshkit import ConfigError, Mesh
from meshkit.endpoint import Endpoint
from meshkit.envoy import EnvoyFlags, envoy, find_envoy
from meshkit.registry.etcd import EtcdOptions, EtcdStore
from meshkit.registry.layouts import DEFAULT_NAMESPACE, make_layout
from meshkit.server.health import Health
from meshkit.testing import EtcdProcess
from meshkit.testing.etcd import free_ports
from meshkit.xds import (
    ControlPlaneAddress,
    EnvoyNode,
    EnvoyScope,
    Port,
    envoy_bootstrap,
    grpc_bootstrap,
)

SWAPS = 60  # through each
TARGET = 0.015  # seconds, of the median
PAUSE = 0.1  # seconds between two swaps

_LAYOUT = make_layout()


def measure_xds() -> None:
    """Start etcd and a control plane; measure and print both."""
    allow_connections()
    with EtcdProcess() as etcd:
        command = [sys.executable, "-m", "meshkit", "--log-level", "error", "xds", "serve"]
        command += ["--registry", etcd.url, "--bind", "127.0.0.1:0"]
        with running(command) as process:
            address = process.stdout.readline().split()[-1]
            asyncio.run(_measure(etcd, address, process.pid))


async def _measure(etcd: EtcdProcess, address: str, pid: int) -> None:
    await _measure_swaps(etcd, address)
    await measure_fanout(etcd, address, pid)


async def _measure_swaps(etcd: EtcdProcess, address: str) -> None:
    async with AsyncExitStack() as stack:
        store = EtcdStore(EtcdOptions(endpoints=(etcd.endpoint,)))
        await stack.enter_async_context(aclosing(store))
        servers = [await stack.enter_async_context(_server(name)) for name in "ab"]
        for service in ("native", "proxyless", "proxy"):
            await store.put(dict([_entry(service, servers[1])]), lease=0)
        plane = ControlPlaneAddress(addresses=[address])
        os.environ["GRPC_XDS_BOOTSTRAP_CONFIG"] = json.dumps(grpc_bootstrap(plane))
        mesh = await stack.enter_async_context(Mesh(etcd.url, cache=False))
        proxyless = grpc.aio.insecure_channel("xds:///proxyless")
        channels = {
            "native": await mesh.channel("native"),
            "proxyless": await stack.enter_async_context(proxyless),
        }
        try:
            channels["proxy"] = await stack.enter_async_context(_proxy(plane))
        except ConfigError as error:
            print(f"SKIPPED: Envoy: {error}")
        delays: dict[str, list[float]] = {service: [] for service in channels}
        for number in range(SWAPS + 1):
            for service, channel in channels.items():
                delay = await _swap(store, service, channel, number % 2, servers[number % 2])
                if number:  # the first call connects
                    delays[service].append(delay)
    _print(delays)


@asynccontextmanager
async def _server(name: str) -> AsyncIterator[int]:
    class Greeter(GreeterServicer):
        async def SayHello(self, request, context):
            return HelloReply(message=name)

    server = grpc.aio.server()
    add_GreeterServicer_to_server(Greeter(), server)
    health = Health()  # of which our channel asks
    health.add_to(server)
    health.serve(())
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(0)


@asynccontextmanager
async def _proxy(plane: ControlPlaneAddress) -> AsyncIterator[grpc.aio.Channel]:
    [port] = free_ports(1)
    scope = EnvoyScope(ports=(Port(address=f"127.0.0.1:{port}", service="proxy"),))
    bootstrap = envoy_bootstrap(plane, EnvoyNode(scope=scope))
    flags = EnvoyFlags(concurrency=1, log_level="error")
    async with envoy(find_envoy(), bootstrap, flags) as running_envoy:
        await running_envoy.ready()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel


async def _swap(
    store: EtcdStore, service: str, channel: grpc.aio.Channel, number: int, port: int
) -> float:
    """Seconds from the change until the server behind `port` answers."""
    stub, wanted = GreeterStub(channel), "ab"[number]
    began = time.monotonic()
    writing = asyncio.create_task(store.put(dict([_entry(service, port)]), lease=0))
    while True:
        reply = await stub.SayHello(HelloRequest(), timeout=5.0, wait_for_ready=True)
        if reply.message == wanted:
            break
    delay = time.monotonic() - began
    await writing
    await asyncio.sleep(PAUSE)
    return delay


def _entry(service: str, port: int) -> tuple[str, bytes]:
    endpoint = Endpoint(service=service, id="only", address=f"127.0.0.1:{port}")
    return _LAYOUT.encode(DEFAULT_NAMESPACE, endpoint)


def _print(delays: dict[str, list[float]]) -> None:
    print(f"\nA change in etcd until the first call on the new endpoint, {SWAPS} changes, in ms:")
    for service, found in delays.items():
        milliseconds = [delay * 1e3 for delay in found]
        reached = verdict(percentile(milliseconds, 0.5) <= TARGET * 1e3)
        print(
            f"  {service:10} {spread(milliseconds, '5.1f')}, "
            f"p90 {percentile(milliseconds, 0.9):5.1f}  target {TARGET * 1e3:.0f}: {reached}"
        )
