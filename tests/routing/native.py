"""The model of meshkit's own channel."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import ClassVar

import grpc
import grpc.aio

from examples.hello.helloworld_pb2 import HelloReply
from meshkit import Mesh
from tests.routing.table import Asked

__all__ = ["Native", "answer_of"]


class Native:
    """`mesh.channel(service)`."""

    lacks: ClassVar[Mapping[str, str]] = {}

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh

    @asynccontextmanager
    async def calling(self, service: str) -> AsyncIterator[Channelled]:
        async with await self._mesh.channel(service) as channel:
            yield Channelled(channel)


class Channelled:
    """Calls through a channel."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel

    async def answers(self, asked: Asked) -> Counter[str]:
        method = self._channel.unary_unary(asked.path, response_deserializer=HelloReply.FromString)
        return Counter(
            [await answer_of(method(b"", metadata=asked.metadata)) for _ in range(asked.times)]
        )


async def answer_of(call: grpc.aio.UnaryUnaryCall[bytes, HelloReply]) -> str:
    """The name of the server that answers a call, or of the code that it ends with."""
    try:
        return (await call).message
    except grpc.aio.AioRpcError as error:
        return error.code().name
