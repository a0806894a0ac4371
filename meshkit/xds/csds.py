"""CSDS: who is connected, and what each client took and refused; gRPC's and Envoy's own format.

Source: envoy.service.status.v3; here as a control plane speaks it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, final

import grpc
from envoy.admin.v3 import config_dump_shared_pb2 as dump
from envoy.service.status.v3 import csds_pb2, csds_pb2_grpc
from grpc import aio

from meshkit.xds.ads import DiscoveryService, Stream
from meshkit.xds.client import Client
from meshkit.xds.subscription import Subscription

__all__ = ["ClientStatusService"]

_SAID: Final[Mapping[str, Callable[[str, str], bool]]] = {
    "exact": str.__eq__,
    "prefix": str.startswith,
    "suffix": str.endswith,
}


@final
class ClientStatusService(csds_pb2_grpc.ClientStatusDiscoveryServiceServicer):  # type: ignore[misc]
    """Tells what is known of all clients.

    Args:
        discovery: has their streams.
    """

    def __init__(self, discovery: DiscoveryService) -> None:
        self._discovery = discovery

    def add_to(self, server: aio.Server) -> None:
        """Answer on `server`."""
        csds_pb2_grpc.add_ClientStatusDiscoveryServiceServicer_to_server(self, server)

    async def FetchClientStatus(  # noqa: N802 -- the protocol's name
        self,
        request: Any,
        context: grpc.aio.ServicerContext[Any, Any],  # noqa: ARG002
    ) -> Any:
        """Once."""
        return self._response(request)

    async def StreamClientStatus(  # noqa: N802 -- the protocol's name
        self, requests: Any, context: grpc.aio.ServicerContext[Any, Any]
    ) -> None:
        """Whenever the other side asks."""
        async for request in requests:
            await context.write(self._response(request))

    def _response(self, request: Any) -> Any:
        configs = (
            _config(stream.client, stream)
            for stream in self._discovery
            if stream.client is not None and _is_meant(stream.client, request)
        )
        return csds_pb2.ClientStatusResponse(config=configs)


def _is_meant(client: Client, request: Any) -> bool:
    matchers = [each.node_id for each in request.node_matchers if each.HasField("node_id")]
    return not matchers or any(_matches(each, client.node.id) for each in matchers)


def _matches(matcher: Any, text: str) -> bool:
    kind = matcher.WhichOneof("match_pattern")
    test = _SAID.get(kind)
    return test is not None and test(text, getattr(matcher, kind))


def _config(client: Client, stream: Stream) -> Any:
    found = csds_pb2.ClientConfig(node=client.node, client_scope=client.peer)
    for subscription in stream.subscriptions.by_type.values():
        found.generic_xds_configs.extend(_resources(subscription))
    return found


def _resources(subscription: Subscription) -> Iterator[Any]:
    refusal = subscription.refusal
    for name in sorted(subscription.known()):
        version = subscription.sent.get(name, "")
        found = csds_pb2.ClientConfig.GenericXdsConfig(
            type_url=subscription.type_url,
            name=name,
            version_info=subscription.accepted.get(name, ""),
        )
        if refusal is not None and refusal.versions.get(name) == version:
            found.client_status = dump.NACKED
            found.error_state.details = refusal.reason
            found.error_state.version_info = version
        elif version and subscription.accepted.get(name) == version:
            found.client_status = dump.ACKED
        elif subscription.sent.get(name) == "":
            found.client_status = dump.DOES_NOT_EXIST
        else:
            found.client_status = dump.REQUESTED
        yield found
