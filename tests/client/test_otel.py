"""OpenTelemetry's instrumentation of grpc.aio sees the calls of our channel."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("opentelemetry.instrumentation.grpc")

# In a process of its own: the instrumentation replaces functions of grpc.aio.
INSTRUMENTED = """
import asyncio
from opentelemetry.instrumentation.grpc import GrpcAioInstrumentorClient
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
GrpcAioInstrumentorClient().instrument(tracer_provider=provider)
"""

PLAIN = """
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

RETRIED = """
from tests.client.fakes import *
from tests.client.scripted import *

async def main():
    for config in (retrying(), hedging(hedgingDelay="100s")):
        shapes = SHAPES if config.method_config[0].retry_policy else SHAPES[:2]
        for shape in shapes:
            script = Script(Step(FAILS), Step(FAILS), Step(messages=1))
            async with scripted(script, config) as channel:
                await result(begin(channel, shape, b"x", timeout=20))
                await until(lambda: pending(channel) == 0)
            previous = [attempt.previous for attempt in script.attempts]
            traced = all("traceparent" in attempt.metadata for attempt in script.attempts)
            spans = exporter.get_finished_spans()
            exporter.clear()
            print(shape, previous, traced, len(spans))

asyncio.run(main())
"""


def run(program: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", INSTRUMENTED + program],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_spans_of_all_shapes():
    names = [
        f"/test.Echo/{kind}"
        for kind in ("StreamStream", "StreamUnary", "UnaryStream", "UnaryUnary")
        for _ in range(2)
    ]
    assert run(PLAIN) == [str(names), "True"]


def test_each_attempt_has_a_span():
    shapes = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
    expected = [f"{shape} [None, '1', '2'] True 3" for shape in (*shapes, *shapes[:2])]
    assert run(RETRIED) == expected
