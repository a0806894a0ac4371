"""OpenTelemetry's instrumentation of grpc.aio sees the calls of our channel."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("opentelemetry.instrumentation.grpc")

# In a process of its own: the instrumentation replaces functions of grpc.aio.
PROGRAM = """
import asyncio
from opentelemetry.instrumentation.grpc import GrpcAioInstrumentorClient
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
GrpcAioInstrumentorClient().instrument(tracer_provider=provider)

from tests.client.fakes import *

async def main():
    # Each connection asks the server once who it is: that is no call of the user's.
    async with serving("a") as servers, open_channel(*servers) as (channel, _):
        for shape in SHAPES:
            await result(begin(channel, shape, b"x"))
            await error_of(begin(channel, shape, b"abort:NOT_FOUND:x"))
        await until(lambda: pending(channel) == 0)
    print(sorted(span.name for span in exporter.get_finished_spans()))
    print(all(b["traceparent"] for b in servers[0].metadata))

asyncio.run(main())
"""


def test_spans_of_all_shapes():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    names = [
        f"/test.Echo/{kind}"
        for kind in ("StreamStream", "StreamUnary", "UnaryStream", "UnaryUnary")
        for _ in range(2)
    ]
    assert done.stdout.splitlines() == [str(names), "True"]
