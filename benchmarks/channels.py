"""What is compared: channels of grpc.aio, alone or behind a proxy, and those of meshkit."""

from __future__ import annotations

import pkgutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import grpc.aio

from meshkit import Mesh
from meshkit.balancer import POLICIES, Policy, policy_named

RAW = "raw channel"
DEFAULT = "meshkit (default)"
RETRYING = "meshkit, with retries"
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
async def opened(name: str, addresses: Sequence[str]) -> AsyncIterator[grpc.aio.Channel]:
    """A connected channel to all servers.

    Args:
        name: `RAW` (to the first), `NATIVE`, `DEFAULT`, `RETRYING`, a policy of meshkit, or
            `module:name` of one that is tried out.
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
        elif name == RETRYING:
            config = {"methodConfig": [{"name": [{}], "retryPolicy": _RETRY}]}
            yield await mesh.channel("bench", service_config=config)
        else:
            yield await mesh.channel("bench", policy=policy_called(name))
