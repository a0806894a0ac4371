"""What it costs to follow many endpoints, and many services: first list, memory, one change."""

from __future__ import annotations

import gc
import os
import random
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count, cycle
from pathlib import Path

import anyio

from meshkit.balancer import Adaptive, Balancer, Load, Readiness
from meshkit.endpoint import Endpoint, EndpointSet
from meshkit.registry.etcd import EtcdOptions, EtcdStore
from meshkit.registry.layouts import DEFAULT_NAMESPACE, make_layout
from meshkit.registry.registry import Registry
from meshkit.registry.store import Batch, KeyValue, Listing, Store
from meshkit.registry.view import View
from meshkit.tasks import Supervisor
from meshkit.testing.etcd import EtcdProcess

MANY, FEW = 10_000, 10
SERVICES = 1_000
CHANGES = 2_000
IDLE = 30.0  # seconds: each watch lists again once

LAYOUT = make_layout()


class Node(Load):
    """A node without a connection."""

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__()
        self.endpoint = endpoint


def entry(service: str, number: int, weight: int = 100) -> tuple[str, bytes]:
    address = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}:50051"
    found = Endpoint(service=service, id=f"{number:032x}", address=address, weight=weight)
    return LAYOUT.encode(DEFAULT_NAMESPACE, found)


def decode(key: str, value: bytes) -> Endpoint:
    return LAYOUT.decode("orders", key, value)


class AnyCall:
    """What a picker may know of a call."""

    path = "/orders/Get"
    metadata = ()


class Client:
    """All that a change passes on its way from the registry to a call."""

    def __init__(self, size: int) -> None:
        self._revisions = count(2)
        self._view = View("orders", decode, hold=20.0, skip=print)
        self._known = EndpointSet("orders")
        self._balancer = Balancer(
            "orders",
            make_node=Node,
            picker=Adaptive().picker(random.Random(1), time.monotonic),
            rng=random.Random(1),
            now=time.monotonic,
        )
        items = tuple(KeyValue(*entry("orders", number)) for number in range(size))
        self._adopt(self._view.relist(Listing(1, items), 0.0))
        for node in self._balancer.nodes:
            self._balancer.set_readiness(node, Readiness.READY)

    def _adopt(self, endpoints: EndpointSet) -> None:
        endpoints.since(self._known)  # as the event tells it
        self._balancer.reconcile(endpoints)
        self._known = endpoints

    def _apply(self, key: str, value: bytes | None) -> None:
        batch = Batch(next(self._revisions), (KeyValue(key, value),))
        self._adopt(self._view.apply(batch, 0.0))

    def change(self, number: int, weight: int) -> None:
        """Another weight, and the next call."""
        self._apply(*entry("orders", number, weight))
        self._balancer.pick(AnyCall)

    def replace(self, number: int, by: int) -> None:
        """One leaves, another one comes and is connected; and the next call."""
        self._apply(entry("orders", number)[0], None)
        self._apply(*entry("orders", by))
        [node] = [self._balancer._nodes[f"{by:032x}"]]  # noqa: SLF001 -- as its connection has it
        self._balancer.set_readiness(node, Readiness.READY)
        self._balancer.pick(AnyCall)


def _changes(size: int, client: Client) -> Iterator[Callable[[], None]]:
    dice = random.Random(2)
    for weight in cycle((50, 100)):
        number = dice.randrange(size)
        yield lambda number=number, weight=weight: client.change(number, weight)


def _replacements(size: int, client: Client) -> Iterator[Callable[[], None]]:
    present = list(range(size))
    dice = random.Random(3)
    for new in count(size):
        place = dice.randrange(size)
        old, present[place] = present[place], new
        yield lambda old=old, new=new: client.replace(old, new)


def _mean(steps: Iterator[Callable[[], None]]) -> float:
    began = time.process_time()
    for _ in range(CHANGES):
        next(steps)()
    return (time.process_time() - began) / CHANGES


def one_change() -> None:
    """CPU of this process from the news of one endpoint to the next call."""
    print(f"\nOne change, CPU from the news to the next call (mean of {CHANGES}):")
    clients = {size: Client(size) for size in (FEW, MANY)}
    for name, steps in (("another weight", _changes), ("one for another", _replacements)):
        few, many = (_mean(steps(size, client)) for size, client in clients.items())
        print(
            f"  {name:16} among {FEW}: {few * 1e6:.0f} us, among {MANY:,}: {many * 1e6:.0f} us, "
            f"ratio {many / few:.1f}"
        )


def memory() -> None:
    items = tuple(KeyValue(*entry("orders", number)) for number in range(MANY))
    gc.collect()
    tracemalloc.start()
    view = View("orders", decode, hold=20.0, skip=print)
    began = tracemalloc.get_traced_memory()[0]
    known = view.relist(Listing(1, items), 0.0)
    gc.collect()
    used = tracemalloc.get_traced_memory()[0] - began
    tracemalloc.stop()
    print(f"\nMemory of {len(known):,} endpoints as a watcher keeps them: {used / MANY:.0f} B each")


async def _fill(store: Store, entries: Iterator[tuple[str, bytes]]) -> None:
    batch: dict[str, bytes] = {}
    for key, value in entries:
        batch[key] = value
        if len(batch) == 125:
            await store.put(batch, lease=0)
            batch = {}
    await store.put(batch, lease=0)


def _rss() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def _followed(registry: Registry, services: list[str]) -> Iterator[list]:
    with ExitStack() as stack:
        yield [stack.enter_context(registry.watch(service)) for service in services]


async def _until(watches: list, size: int) -> None:
    while any(len(watch.latest.value.endpoints or ()) < size for watch in watches):
        await anyio.sleep(0.005)


async def follow(etcd: EtcdProcess, services: list[str], size: int) -> None:
    """From nothing to all lists known; then idle; then one change."""
    store = EtcdStore(EtcdOptions(endpoints=(etcd.endpoint,)))
    supervisor = Supervisor(print)
    await supervisor.open()
    registry = Registry(store, LAYOUT, emit=lambda _: None, supervisor=supervisor)
    before, began, cpu = _rss(), time.perf_counter(), time.process_time()
    with _followed(registry, services) as watches:
        await _until(watches, size)
        took, cpu = time.perf_counter() - began, time.process_time() - cpu
        print(
            f"  first list of all: {took:.2f} s ({cpu:.2f} s of CPU), RSS +{_rss() - before:.0f} MB"
        )
        await anyio.sleep(2.0)
        ours, theirs = time.process_time(), _cpu(etcd.pid)
        await anyio.sleep(IDLE)
        ours, theirs = time.process_time() - ours, _cpu(etcd.pid) - theirs
        print(f"  idle: {ours / IDLE:.1%} of a core here, {theirs / IDLE:.1%} in etcd")
        waits = []
        for number in range(size + 1, size + 21):
            watch = watches[number % len(watches)]
            key, value = entry(watch.service, number)
            began = time.perf_counter()
            await store.put({key: value}, lease=0)
            while f"{number:032x}" not in watch.latest.value.endpoints.by_id:
                await watch.latest.changed()
            waits.append(time.perf_counter() - began)
        print(f"  one more endpoint, from the put to the watcher: {sorted(waits)[10] * 1e3:.1f} ms")
    await registry.aclose()
    await supervisor.aclose()


async def _in_etcd() -> None:
    with EtcdProcess() as etcd:
        store = EtcdStore(EtcdOptions(endpoints=(etcd.endpoint,)))
        await _fill(store, (entry("orders", number) for number in range(MANY)))
        services = [f"service-{number}" for number in range(SERVICES)]
        await _fill(store, (entry(s, number) for s in services for number in range(FEW)))
        await store.aclose()
        print(f"\n1 service of {MANY:,} in etcd:")
        await follow(etcd, ["orders"], MANY)
        print(f"\n{SERVICES:,} services of {FEW} in etcd:")
        await follow(etcd, services, FEW)


def measure_scale() -> None:
    """Print all figures; takes about two minutes."""
    one_change()
    memory()
    anyio.run(_in_etcd)
