"""What a change costs a control plane with 800 clients, and when the last of them knows it.

The control plane runs in a process of its own; the clients are bare streams, each on a connection
of its own, that ask for the same 50 endpoints and answer what they get. A change is one key in
etcd. A delay runs from before it is written until a stream has the answer; all share this machine,
so the clients take their part of both figures.
"""

from __future__ import annotations

import asyncio
import resource
import statistics
import time
from contextlib import AsyncExitStack, aclosing
from pathlib import Path

import grpc
from envoy.service.discovery.v3 import discovery_pb2

from benchmarks.figures import percentile, spread, verdict
from benchmarks.processes import cpu_of
from meshkit.endpoint import Endpoint
from meshkit.registry.etcd import EtcdOptions, EtcdStore
from meshkit.registry.layouts import DEFAULT_NAMESPACE, make_layout
from meshkit.testing import EtcdProcess
from meshkit.xds.resources import ENDPOINT

STREAMS, ENDPOINTS, CHANGES = 800, 50, 20
LAST, CPU = 0.5, 0.150  # seconds: the targets
QUIET = 0.7  # seconds after the last client heard: all has been answered by then
PATIENCE = 20.0  # seconds

_METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"
_LAYOUT = make_layout()


class Client:
    """A stream that asks for the endpoints of one service and answers what it gets."""

    def __init__(self, channel: grpc.aio.Channel, number: int) -> None:
        self._call = channel.stream_stream(_METHOD)()
        self._number = number
        self.heard = 0.0
        self.answers = 0

    async def ask(self) -> None:
        request = discovery_pb2.DiscoveryRequest(type_url=ENDPOINT, resource_names=["fleet"])
        request.node.id = f"client-{self._number}"
        await self._call.write(request.SerializeToString())
        await self._answer()

    async def listen(self) -> None:
        while True:
            await self._answer()

    async def _answer(self) -> None:
        message = await self._call.read()
        self.heard = time.monotonic()
        self.answers += 1
        answer = discovery_pb2.DiscoveryResponse.FromString(message)
        request = discovery_pb2.DiscoveryRequest(
            type_url=ENDPOINT,
            resource_names=["fleet"],
            version_info=answer.version_info,
            response_nonce=answer.nonce,
        )
        await self._call.write(request.SerializeToString())


def allow_connections() -> None:
    """As many files as this process, and those that it starts, may open at all."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def measure_fanout(etcd: EtcdProcess, address: str, pid: int) -> None:
    """Measure the control plane at `address`, whose process is `pid`; print the figures."""
    async with AsyncExitStack() as stack:
        store = EtcdStore(EtcdOptions(endpoints=(etcd.endpoint,)))
        await stack.enter_async_context(aclosing(store))
        await store.put(dict(_entry(number) for number in range(ENDPOINTS)), lease=0)
        clients = []
        for number in range(STREAMS):
            options = [("grpc.use_local_subchannel_pool", 1)]
            channel = grpc.aio.insecure_channel(address, options)
            clients.append(Client(await stack.enter_async_context(channel), number))
            await clients[-1].ask()
        listening = [asyncio.create_task(client.listen()) for client in clients]
        rounds = [await _change(store, clients, pid, weight) for weight in range(1, CHANGES + 1)]
        for task in listening:
            task.cancel()
        await asyncio.gather(*listening, return_exceptions=True)
    _print(rounds, _resident(pid))


async def _change(store: EtcdStore, clients: list[Client], pid: int, weight: int):
    """Change one endpoint; when each client knew, and the CPU that the server used."""
    before, answers = cpu_of(pid), [client.answers for client in clients]
    sent = time.monotonic()
    await store.put(dict([_entry(0, 100 + weight)]), lease=0)
    async with asyncio.timeout(PATIENCE):
        while any(c.answers == count for c, count in zip(clients, answers, strict=True)):
            await asyncio.sleep(0.05)
    await asyncio.sleep(QUIET)
    return [client.heard - sent for client in clients], cpu_of(pid) - before


def _entry(number: int, weight: int = 100) -> tuple[str, bytes]:
    endpoint = Endpoint(
        service="fleet", id=f"e{number}", address=f"10.0.0.{number}:50051", weight=weight
    )
    return _LAYOUT.encode(DEFAULT_NAMESPACE, endpoint)


def _resident(pid: int) -> int:
    """MB of memory in use."""
    pages = Path(f"/proc/{pid}/statm").read_text("ascii").split()[1]
    return int(pages) * resource.getpagesize() >> 20


def _print(rounds: list[tuple[list[float], float]], resident: int) -> None:
    last = [max(delays) * 1e3 for delays, _ in rounds]
    middle = [percentile(delays, 0.5) * 1e3 for delays, _ in rounds]
    cpu = [seconds * 1e3 for _, seconds in rounds]
    print(f"\n{STREAMS} clients of {ENDPOINTS} endpoints, {CHANGES} changes, in ms:")
    print(f"  median client     {spread(middle, '6.1f')}")
    in_time = verdict(statistics.median(last) <= LAST * 1e3)
    print(f"  last client       {spread(last, '6.1f')}  target {LAST * 1e3:.0f}: {in_time}")
    cheap = verdict(statistics.median(cpu) <= CPU * 1e3)
    print(f"  CPU of the server {spread(cpu, '6.1f')}  target {CPU * 1e3:.0f}: {cheap}")
    print(f"  memory of the server {resident} MB")
