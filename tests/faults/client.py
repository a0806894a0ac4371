"""One client of a scenario: calls at a constant rate, however the calls go, and tells of each."""

from __future__ import annotations

import argparse
import asyncio
import itertools
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import grpc

from meshkit import Mesh
from meshkit._proto.echo_pb2 import EchoRequest
from meshkit._proto.echo_pb2_grpc import EchoStub
from meshkit.client.call import Call as MeshCall
from tests.faults.journal import OK, Call, Journal, name_of
from tests.faults.program import arguments, end_with_parent
from tests.faults.vitals import note_vitals, tell_vitals

FAST = 0.005  # seconds that a call of kind "fast" takes
SLOW = 1.5  # and one of kind "slow"
SLOW_EVERY = 20  # calls
TICK = 0.05  # seconds between the messages of a stream
PATIENCE = 30.0  # seconds for the last calls to end
LOOK = 0.01  # seconds between two looks at how late the loop is


class Load:
    """The calls of this client."""

    def __init__(self, stub: EchoStub, journal: Journal, given: argparse.Namespace) -> None:
        self._stub = stub
        self._journal = journal
        self._given = given
        self._running: set[asyncio.Task[None]] = set()
        self._begun = 0
        self._ids = itertools.count()
        self._late = 0.0
        self.over = asyncio.Event()

    async def run(self) -> None:
        """Call until `over`, then wait for the calls that are under way."""
        note_vitals(self._journal)  # at rest
        looking = asyncio.create_task(self._look_at_the_loop())
        telling = asyncio.create_task(tell_vitals(self._journal))
        streams = [asyncio.create_task(self._stream()) for _ in range(self._given.streams)]
        clock = asyncio.get_running_loop().time
        began = clock()
        while not self.over.is_set():
            self._begin(self._slow if self._begun % SLOW_EVERY == 0 else self._fast)
            # Open loop: the time of the next call depends on no answer.
            wait = began + self._begun / self._given.rate - clock()
            await asyncio.sleep(max(0.0, wait))
        _, unended = await asyncio.wait({*self._running, *streams}, timeout=PATIENCE)
        for task in unended:
            task.cancel()
        await asyncio.gather(*unended, return_exceptions=True)
        for task in (looking, telling):
            task.cancel()
        await asyncio.gather(looking, telling, return_exceptions=True)
        note_vitals(self._journal)  # at rest
        self._journal.note("done", begun=self._begun, late=self._late)

    async def _look_at_the_loop(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            due = clock() + LOOK
            await asyncio.sleep(LOOK)
            self._late = max(self._late, clock() - due)

    def _begin(self, call: Callable[[], Awaitable[None]]) -> None:
        self._begun += 1
        task = asyncio.ensure_future(call())
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _fast(self) -> None:
        await self._unary("fast", FAST)

    async def _slow(self) -> None:
        await self._unary("slow", SLOW)

    async def _unary(self, kind: str, seconds: float) -> None:
        request = EchoRequest(message=self._next_id(), delay=seconds)
        call = self._stub.Unary(
            request, timeout=seconds + self._given.deadline, wait_for_ready=self._given.patient
        )
        await self._record(kind, request, call)

    async def _stream(self) -> None:
        seconds = self._given.stream_seconds
        while not self.over.is_set():
            self._begun += 1
            request = EchoRequest(message=self._next_id(), delay=TICK, count=round(seconds / TICK))
            call = self._stub.ServerStream(
                request,
                timeout=2 * seconds + self._given.deadline,
                wait_for_ready=self._given.patient,
            )
            await self._record("stream", request, call, _all_of(call, request.count))
            await asyncio.sleep(TICK)  # calls that are refused at once are no load

    def _next_id(self) -> str:
        return f"{self._given.name}-{next(self._ids)}"

    async def _record(
        self,
        kind: str,
        request: EchoRequest,
        call: MeshCall,
        answer: Awaitable[object] | None = None,
    ) -> None:
        start, code, details = time.monotonic(), OK, ""
        try:
            await (answer or call)
        except grpc.aio.AioRpcError as error:
            code, details = error.code().name, f"{error.details()} {error.debug_error_string()}"
        except BaseException as error:  # whatever else a caller might get is a failure, too
            code, details = type(error).__name__, str(error)
        self._journal.record(
            Call(
                id=request.message,
                kind=kind,
                start=start,
                end=time.monotonic(),
                code=code,
                details=details,
                to=name_of(call.node.endpoint) if call.node is not None else "",
            )
        )


async def _all_of(call: MeshCall, count: int) -> None:
    got = [message async for message in call]
    if len(got) != count:
        raise EOFError(f"the stream ended well after {len(got)} of {count} messages")


async def main(given: argparse.Namespace, journal: Journal) -> None:
    async with Mesh(given.registry, ttl=given.ttl, hooks=[journal]) as mesh:
        load = Load(EchoStub(await mesh.channel(given.service)), journal, given)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, load.over.set)
        journal.note("ready")
        await load.run()


if __name__ == "__main__":
    flags = arguments(__doc__)
    flags.add_argument("--rate", type=float, default=100.0, help="unary calls per second")
    flags.add_argument("--streams", type=int, default=2, help="streams at a time")
    flags.add_argument("--stream-seconds", type=float, default=3.0)
    flags.add_argument("--deadline", type=float, default=5.0, help="of calls, beyond their work")
    flags.add_argument("--patient", action="store_true", help="calls wait for servers")
    given = flags.parse_args()
    end_with_parent()
    with Journal(Path(given.journal)) as journal:
        asyncio.run(main(given, journal))
