"""How fast news reach 100 watching clients, against 100 bare etcd watches in the same run.

Four processes with 25 watching programs each, in two shapes: the 25 share the mesh of their process
and so its one watch stream, or each has a mesh, and a connection to etcd, of its own. The bare
watches are streams of grpc.aio in the same processes, each on a connection of its own. All kinds
watch different keys and are told news in turn, so that none waits for another. A delay runs
from before the write is sent until the program behind the watch has the news, on the machine's
one monotonic clock.

With a few cores the 100 meshes of the second shape wait for each other, which 100 machines would
not. So there are also one mesh and one bare watch in each process, which wait for nobody.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import statistics
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, aclosing, suppress
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import grpc
from aetcd import rpc

from meshkit import Mesh
from meshkit.endpoint import Endpoint, EndpointSet
from meshkit.registry.etcd import EtcdOptions, EtcdStore
from meshkit.registry.layouts import DEFAULT_NAMESPACE, make_layout
from meshkit.testing import EtcdProcess

PROCESSES = 4
PROGRAMS = 25  # of each kind in each process
NEWS = 40  # registrations and as many removals, for each kind
PAUSE = 0.05  # seconds between them; each is a burst on all cores
# What is watched, and against what it is measured.
KINDS = {
    "bare": "bare",
    "shared": "bare",
    "separate": "bare",
    "one_bare": "one_bare",
    "one": "one_bare",
}

LAYOUT = make_layout()


class News(NamedTuple):
    """An endpoint came or went."""

    kind: str
    name: str
    is_there: bool


Arrival = tuple[News, float]  # seconds


def measure_propagation() -> None:
    """Run it, and print the delays and their ratios."""
    spawn = multiprocessing.get_context("spawn")
    with EtcdProcess() as etcd:
        pipes = []
        for _ in range(PROCESSES):
            ours, theirs = spawn.Pipe()
            spawn.Process(target=_watch_in_process, args=(etcd.url, theirs), daemon=True).start()
            pipes.append(ours)
        for pipe in pipes:
            pipe.recv()  # it watches
        sent = asyncio.run(_send_news(etcd))
        for pipe in pipes:
            pipe.send("end")
        arrivals = [arrival for pipe in pipes for arrival in pipe.recv()]
    _print(sent, arrivals)


async def _send_news(etcd: EtcdProcess) -> dict[News, float]:
    """Announce and remove endpoints for each kind in turn; when each was sent."""
    sent: dict[News, float] = {}
    async with aclosing(EtcdStore(EtcdOptions(endpoints=(etcd.endpoint,)))) as store:
        lease = (await store.grant(600.0)).lease
        for kind in KINDS:  # one that stays: the last deletion would not be believed
            await store.put(dict([_entry(kind, "stays")]), lease=lease)
        await asyncio.sleep(0.5)
        for number in range(NEWS):
            for is_there in (True, False):
                for kind in KINDS:
                    key, value = _entry(kind, f"n{number}")
                    sent[News(kind, f"n{number}", is_there)] = time.monotonic()
                    if is_there:
                        await store.put({key: value}, lease=lease)
                    else:
                        await store.delete([key])
                    await asyncio.sleep(PAUSE)
    return sent


def _entry(kind: str, name: str) -> tuple[str, bytes]:
    endpoint = Endpoint(service=kind, id=name, address=f"{name}:50051")
    return LAYOUT.encode(DEFAULT_NAMESPACE, endpoint)


# -- the clients


class Watching:
    """The program behind a watch: notes what comes and when, and reads it afterwards."""

    def __init__(self, source: AsyncIterator[Any], read: Callable[[Any], Iterator[News]]) -> None:
        self._source = source
        self._read = read
        self._noted: list[tuple[float, Any]] = []

    async def collect(self) -> None:
        """Note, for ever."""
        async for each in self._source:
            self._noted.append((time.monotonic(), each))

    def arrivals(self) -> list[Arrival]:
        """What came."""
        return [(news, at) for at, each in self._noted for news in self._read(each)]


def _watch_in_process(url: str, pipe: Connection) -> None:
    asyncio.run(_watch(url, pipe))


async def _watch(url: str, pipe: Connection) -> None:
    async with AsyncExitStack() as stack:
        shared = await stack.enter_async_context(Mesh(url, cache=False))
        watching = [await _bare(url, "one_bare", stack), await _mesh(shared, "one", stack)]
        for _ in range(PROGRAMS):
            own = await stack.enter_async_context(Mesh(url, cache=False))
            watching.append(await _bare(url, "bare", stack))
            watching.append(await _mesh(shared, "shared", stack))
            watching.append(await _mesh(own, "separate", stack))
        tasks = [asyncio.create_task(each.collect()) for each in watching]
        pipe.send("ready")
        await asyncio.to_thread(pipe.recv)
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
    pipe.send([arrival for each in watching for arrival in each.arrivals()])


async def _mesh(mesh: Mesh, kind: str, stack: AsyncExitStack) -> Watching:
    sets = await stack.enter_async_context(mesh.watch(kind))
    before = await anext(sets)

    def read(endpoints: EndpointSet) -> Iterator[News]:
        nonlocal before
        delta, before = endpoints.since(before), endpoints
        yield from (News(kind, added.id, True) for added in delta.added)
        yield from (News(kind, removed.id, False) for removed in delta.removed)

    return Watching(sets, read)


async def _bare(url: str, kind: str, stack: AsyncExitStack) -> Watching:
    options = [("grpc.use_local_subchannel_pool", 1)]
    channel = grpc.aio.insecure_channel(url.removeprefix("etcd://"), options)
    call = rpc.WatchStub(await stack.enter_async_context(channel)).Watch()
    prefix = LAYOUT.prefix(DEFAULT_NAMESPACE, kind).encode()
    create = rpc.WatchCreateRequest(key=prefix, range_end=prefix[:-1] + b"0")  # the byte after "/"
    await call.write(rpc.WatchRequest(create_request=create))
    await call.read()  # created

    async def responses() -> AsyncIterator[rpc.WatchResponse]:
        while True:
            yield await call.read()

    def read(response: rpc.WatchResponse) -> Iterator[News]:
        for event in response.events:
            name = event.kv.key.decode().rpartition("/")[2]
            yield News(kind, name, event.type == event.PUT)

    return Watching(responses(), read)


# -- the figures


def _print(sent: dict[News, float], arrivals: list[Arrival]) -> None:
    print(f"\nNews to {PROCESSES * PROGRAMS} programs in {PROCESSES} processes, {NEWS} of each:")
    for word, is_there in (("registration", True), ("removal", False)):
        delays: dict[str, list[float]] = {kind: [] for kind in KINDS}
        for news, at in arrivals:
            if news.is_there is is_there and news in sent:
                delays[news.kind].append(at - sent[news])
        for kind, found in delays.items():
            print(f"  {word:12} {kind:8} {_figures(found, delays[KINDS[kind]])}")
            if missed := NEWS * PROCESSES * (1 if "one" in kind else PROGRAMS) - len(found):
                print(f"    {missed} of them were never seen")


def _figures(found: list[float], bare: list[float]) -> str:
    ours, theirs = ((statistics.median(each), _p99(each)) for each in (found, bare))
    return (
        f"median {ours[0] * 1e3:6.2f} ms, p99 {ours[1] * 1e3:6.2f} ms; "
        f"ratio {ours[0] / theirs[0]:.2f}, p99 {ours[1] / theirs[1]:.2f}"
    )


def _p99(delays: list[float]) -> float:
    return sorted(delays)[int(len(delays) * 0.99)]
