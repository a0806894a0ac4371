"""One server of a scenario: says back what it hears, and tells its journal what happens to it."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc

from meshkit import Mesh, draining
from meshkit._proto.echo_pb2 import EchoReply, EchoRequest
from meshkit._proto.echo_pb2_grpc import EchoServicer
from tests.faults.distance import place
from tests.faults.journal import Journal
from tests.faults.program import arguments, end_with_parent
from tests.faults.vitals import tell_vitals

SLOW = 0.5  # seconds that a slow server takes for each call

Context = grpc.aio.ServicerContext[EchoRequest, EchoReply]


class Echo(EchoServicer):
    def __init__(self, name: str, journal: Journal, ails: str | None) -> None:
        self._name = name
        self._journal = journal
        self._ails = ails

    async def Unary(self, request: EchoRequest, context: Context) -> EchoReply:
        self._journal.ran(request.message)
        if self._ails == "fails":
            await context.abort(grpc.StatusCode.INTERNAL, "it fails")
        if self._ails == "slow":
            await asyncio.sleep(SLOW)
        await asyncio.sleep(request.delay)
        return EchoReply(message=request.message, server_id=self._name)

    async def ServerStream(
        self, request: EchoRequest, context: Context
    ) -> AsyncIterator[EchoReply]:
        self._journal.ran(request.message)
        leaving, told = draining(), False
        for _ in range(request.count):
            await asyncio.sleep(request.delay)
            if leaving.is_set() and not told:
                told = True
                self._journal.note("stream.told")
            yield EchoReply(message=request.message, server_id=self._name)


async def main(given: argparse.Namespace, journal: Journal) -> None:
    async with (
        place(given.distance, given.port) as where,
        Mesh(given.registry, ttl=given.ttl, hooks=[journal]) as mesh,
        mesh.serve(
            given.service,
            Echo(given.name, journal, given.ails),
            grace=given.grace,
            metadata={"name": given.name},
            require_registration=not given.unregistered,
            **where,
        ) as server,
    ):
        journal.note("ready", port=server.address.rpartition(":")[2])
        telling = asyncio.create_task(tell_vitals(journal))
        await server.serve_forever()
        telling.cancel()


if __name__ == "__main__":
    flags = arguments(__doc__)
    flags.add_argument("--port", type=int, default=0)
    flags.add_argument("--distance", type=float, default=0.0, help="from its clients, in seconds")
    flags.add_argument("--grace", type=float, default=30.0)
    flags.add_argument("--ails", choices=["slow", "fails"], help="what is wrong with it")
    flags.add_argument("--unregistered", action="store_true", help="serve before the registry does")
    given = flags.parse_args()
    end_with_parent()
    with Journal(Path(given.journal)) as journal:
        asyncio.run(main(given, journal))
