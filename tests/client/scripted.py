"""Servers that answer attempt by attempt as a test says, whichever of them an attempt meets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Self

import grpc
import grpc.aio

from meshkit.client import Channel, ChannelOptions, RetryLimits
from meshkit.endpoint import Endpoint
from meshkit.service_config import ServiceConfig
from tests.client.fakes import PATH, open_channel

FAILS = "UNAVAILABLE"


@dataclass(frozen=True)
class Step:
    """What a server does with one attempt, in this order.

    Attributes:
        takes: requests that it reads; None: all of them.
        headers: sends response headers, with this in them.
        messages: responses.
        lasts: seconds before it ends; None: until the script is told to `go`.
        code: what it ends with.
        pushback: in its trailers.
    """

    code: str = "OK"
    pushback: str | None = None
    lasts: float | None = 0.0
    headers: tuple[tuple[str, str], ...] | None = None
    messages: int = 0
    takes: int | None = None


@dataclass
class Attempt:
    """An attempt as a server saw it."""

    server: str
    at: float
    previous: str | None  # of the metadata
    metadata: dict[str, str]
    requests: list[bytes] = field(default_factory=list)
    cancelled: bool = False


class Script:
    """The steps for the attempts to come, and the attempts so far. The last step goes on."""

    def __init__(self, *steps: Step) -> None:
        self.steps = list(steps)
        self.attempts: list[Attempt] = []
        self.go = asyncio.Event()

    def begin(self, server: str, context: grpc.aio.ServicerContext) -> tuple[Step, Attempt]:
        metadata = dict(context.invocation_metadata())
        previous = metadata.get("grpc-previous-rpc-attempts")
        attempt = Attempt(server, asyncio.get_running_loop().time(), previous, metadata)
        step = self.steps[min(len(self.attempts), len(self.steps) - 1)]
        self.attempts.append(attempt)
        return step, attempt

    @property
    def gaps(self) -> list[float]:
        """Seconds between the attempts."""
        times = [attempt.at for attempt in self.attempts]
        return [later - sooner for sooner, later in pairwise(times)]


class ScriptedServer:
    def __init__(self, name: str, script: Script) -> None:
        self.name = name
        self._script = script

    async def __aenter__(self) -> Self:
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        methods = {
            "UnaryUnary": grpc.unary_unary_rpc_method_handler(self._unary_unary),
            "UnaryStream": grpc.unary_stream_rpc_method_handler(self._unary_stream),
            "StreamUnary": grpc.stream_unary_rpc_method_handler(self._stream_unary),
            "StreamStream": grpc.stream_stream_rpc_method_handler(self._stream_stream),
        }
        handler = grpc.method_handlers_generic_handler(PATH.strip("/"), methods)
        self._server.add_generic_rpc_handlers((handler,))
        self._port = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.stop(None)

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(service="echo", id=self.name, address=f"127.0.0.1:{self._port}")

    async def _run(self, requests: Any, context: Any) -> AsyncIterator[bytes]:
        step, attempt = self._script.begin(self.name, context)
        try:
            if isinstance(requests, bytes):
                attempt.requests.append(requests)
            elif step.takes != 0:
                async for request in requests:
                    attempt.requests.append(request)
                    if len(attempt.requests) == step.takes:
                        break
            if step.headers is not None:
                await context.send_initial_metadata(step.headers)
            for number in range(step.messages):
                yield f"{number}@{self.name}".encode()
            if step.lasts is None:
                await self._script.go.wait()
            else:
                await asyncio.sleep(step.lasts)
        except asyncio.CancelledError:
            attempt.cancelled = True
            raise
        trailers = (("server", self.name), ("attempt", str(len(self._script.attempts))))
        if step.pushback is not None:
            trailers += (("grpc-retry-pushback-ms", step.pushback),)
        context.set_trailing_metadata(trailers)
        if step.code != "OK":
            await context.abort(grpc.StatusCode[step.code], f"no {len(self._script.attempts)}")

    async def _one(self, requests: Any, context: Any) -> bytes:
        answers = [answer async for answer in self._run(requests, context)]
        return b"+".join([*answers, b"@", self.name.encode()])

    async def _unary_unary(self, request: bytes, context: Any) -> bytes:
        return await self._one(request, context)

    async def _stream_unary(self, requests: Any, context: Any) -> bytes:
        return await self._one(requests, context)

    async def _unary_stream(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        async for answer in self._run(request, context):
            yield answer

    async def _stream_stream(self, requests: Any, context: Any) -> AsyncIterator[bytes]:
        async for answer in self._run(requests, context):
            yield answer


def retrying(**policy: Any) -> ServiceConfig:
    """A service config with a retry policy for all methods; quick unless told otherwise."""
    known = {
        "maxAttempts": 4,
        "initialBackoff": "0.01s",
        "maxBackoff": "0.02s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": [FAILS],
    }
    return with_method(retryPolicy=known | policy)


def hedging(**policy: Any) -> ServiceConfig:
    """A service config with a hedging policy for all methods."""
    known = {"maxAttempts": 3, "hedgingDelay": "0.05s", "nonFatalStatusCodes": [FAILS]}
    return with_method(hedgingPolicy=known | policy)


def with_method(throttling: dict[str, Any] | None = None, **method: Any) -> ServiceConfig:
    config: dict[str, Any] = {"methodConfig": [{"name": [{}], **method}]}
    if throttling is not None:
        config["retryThrottling"] = throttling
    return ServiceConfig.parse(json.dumps(config))


@asynccontextmanager
async def scripted(
    script: Script,
    config: ServiceConfig,
    servers: Sequence[str] = ("a", "b", "c"),
    limits: RetryLimits | None = None,
    **options: Any,
) -> AsyncIterator[Channel]:
    """A warm channel to servers that follow `script`."""
    limits = limits or RetryLimits(share=10.0)
    how = ChannelOptions(service_config=config, retry_limits=limits, **options)
    async with AsyncExitStack() as stack:
        running = [await stack.enter_async_context(ScriptedServer(n, script)) for n in servers]
        known = [server.endpoint for server in running]
        channel, _ = await stack.enter_async_context(open_channel(*known, options=how))
        yield channel
