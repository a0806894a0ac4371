"""Handlers of every kind that grpc.aio knows."""

import asyncio
import time

import anyio
import grpc

import meshkit.server
from tests.server.ring_pb2_grpc import RingServicer


class Ring(RingServicer):
    """Coroutines, async generators, reader and writer style."""

    def __init__(self):
        self.began = anyio.Event()
        self.cleaned = []

    async def One(self, request, context):
        """Answers after so many seconds; `abort` aborts and goes on working, `raise` raises."""
        self.began.set()
        if request == b"raise":
            raise ValueError("planted")
        if request == b"abort":
            try:
                await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "planted")
            finally:
                await asyncio.sleep(0.3)
                self.cleaned.append("abort")
        await asyncio.sleep(float(request))
        return request

    async def Fan(self, request, context):
        """Sends until the server drains (`polite`) or for ever."""
        self.began.set()
        leaving = meshkit.server.draining()
        try:
            yield b"first"
            if request == b"polite":
                await leaving.wait()
                yield b"last"
                return
            await asyncio.sleep(60)
        finally:
            self.cleaned.append("fan")

    async def Sum(self, requests, context):
        return b"".join([request async for request in requests])

    async def Chat(self, requests, context):
        async for request in requests:
            await context.write(request)


class ThreadRing(RingServicer):
    """Handlers that are not async: grpc.aio runs them in threads."""

    def __init__(self):
        self.seen = []

    def One(self, request, context):
        self.seen.append(meshkit.server.draining().is_set())
        return request

    def Fan(self, request, context):
        leaving = meshkit.server.draining()
        yield b"first"
        give_up = time.monotonic() + 5.0
        while not leaving.is_set():
            assert time.monotonic() < give_up, "never told"
            time.sleep(0.01)
        yield b"last"

    def Sum(self, requests, context):
        return b"".join(requests)

    def Chat(self, requests, context):
        yield from requests
