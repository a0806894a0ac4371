"""What is compared: channels of grpc.aio, alone or behind a proxy, and those of meshkit."""

from __future__ import annotations

import pkgutil
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import cycle
from typing import Any

import grpc.aio

from meshkit import Endpoint, Mesh
from meshkit.balancer import POLICIES, Policy, policy_named
from meshkit.client.connection import ConnectionOptions, fresh_number

RAW = "raw channel"
DEFAULT = "meshkit (default)"
RETRYING = "meshkit, with retries"
BOUNDLESS = "meshkit, any message size"
BARE = "its connections in turn"
NATIVE = "grpc round_robin"

_RETRY = {
    "maxAttempts": 4,
    "initialBackoff": "0.1s",
    "maxBackoff": "1s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}
_ROUND_ROBIN = '{"loadBalancingConfig":[{"round_robin":{}}]}'


def policies() -> dict[str, Policy]:
    """Every policy of meshkit by its first name, with its default parameters."""
    first = {made: name for name, made in reversed(POLICIES.items())}
    return {name: made() for name, made in POLICIES.items() if first[made] == name}


def policy_called(name: str) -> Policy:
    """One of those, or what `module:name` names: a policy, or a class of policies."""
    if ":" not in name:
        return policy_named(name)
    found = pkgutil.resolve_name(name)
    return found() if isinstance(found, type) else found


def raw(address: str) -> grpc.aio.Channel:
    """As a program without meshkit has it, with gRPC's default options."""
    return grpc.aio.insecure_channel(address)


def native(addresses: Sequence[str]) -> grpc.aio.Channel:
    """grpc's own round_robin over all servers, with gRPC's default options."""
    return grpc.aio.insecure_channel(
        f"ipv4:{','.join(addresses)}", options=[("grpc.service_config", _ROUND_ROBIN)]
    )


@asynccontextmanager
async def in_turn(addresses: Sequence[str], method: str) -> AsyncIterator[Callable[[bytes], Any]]:
    """What is left when meshkit does nothing but connect: its connections' calls, one by one.

    No call costs less on connections of grpc.aio with these options and a choice for each call.
    """
    async with AsyncExitStack() as stack:
        starts = []
        for address in addresses:
            endpoint = Endpoint(service="bench", id=address, address=address)
            channel = ConnectionOptions().connect(endpoint, fresh_number())
            await stack.enter_async_context(channel)
            await channel.channel_ready()
            starts.append(channel.unary_unary(method))
        turns = cycle(starts)

        def call(request: bytes) -> Any:
            return next(turns)(request)

        yield call


@asynccontextmanager
async def opened(name: str, addresses: Sequence[str]) -> AsyncIterator[grpc.aio.Channel]:
    """A connected channel to all servers.

    Args:
        name: `RAW` (to the first), `NATIVE`, `DEFAULT`, `RETRYING`, `BOUNDLESS`, a policy of
            meshkit, or `module:name` of one that is tried out.
        addresses: of the servers.
    """
    if name in (RAW, NATIVE):
        async with raw(addresses[0]) if name == RAW else native(addresses) as channel:
            await channel.channel_ready()
            yield channel
        return
    async with Mesh(f"static:bench={','.join(addresses)}") as mesh:
        if name == DEFAULT:
            yield await mesh.channel("bench")
        elif name == BOUNDLESS:
            yield await mesh.channel("bench", options=[("grpc.max_receive_message_length", -1)])
        elif name == RETRYING:
            config = {"methodConfig": [{"name": [{}], "retryPolicy": _RETRY}]}
            yield await mesh.channel("bench", service_config=config)
        else:
            yield await mesh.channel("bench", policy=policy_called(name))
