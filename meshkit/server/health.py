"""`grpc.health.v1` for a server that drains.

Differs from the servicer of grpcio-health-checking in three ways: `List` works; setting a status
never waits (there, one watcher that does not read blocks it for all); watches end when told, so
that they do not hold up the end of the server.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from meshkit.endpoint import Endpoint
from meshkit.identity import introduce
from meshkit.latest import Latest

if TYPE_CHECKING:
    from meshkit.server.servicer import HandlerTable

__all__ = ["Health"]

_SERVING: Final = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING: Final = health_pb2.HealthCheckResponse.NOT_SERVING
_UNKNOWN: Final = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


@final
@dataclass(frozen=True, slots=True)
class _Report:
    statuses: Mapping[str, Any]  # the enum of the protocol, by service; "" is the whole server
    draining: bool = False
    closed: bool = False


@final
class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # has no types
    """Tells clients which services of this server are well, and whom they have reached.

    Args:
        endpoints: what the server announces, now.
    """

    def __init__(self, endpoints: Callable[[], Iterable[Endpoint]] = tuple) -> None:
        self._endpoints = endpoints
        self._report = Latest(_Report({"": _NOT_SERVING}))

    def add_to(self, server: HandlerTable) -> None:
        """Answer health checks on `server`."""
        health_pb2_grpc.add_HealthServicer_to_server(self, server)

    def serve(self, services: Iterable[str]) -> None:
        """Say that the server as a whole and these services are well."""
        self._set(dict.fromkeys(("", *services), _SERVING))

    def set(self, service: str, *, serving: bool) -> None:
        """Say how one service is; without effect once the server drains."""
        self._set({service: _SERVING if serving else _NOT_SERVING})

    def _set(self, changes: Mapping[str, Any]) -> None:
        report = self._report.value
        if not report.draining:
            self._report.set(replace(report, statuses={**report.statuses, **changes}))

    def drain(self) -> None:
        """Say NOT_SERVING for everything, from now on."""
        statuses = dict.fromkeys(self._report.value.statuses, _NOT_SERVING)
        self._report.set(_Report(statuses, draining=True))

    def close(self) -> None:
        """End all watches with status OK; clients take that as "ask again", not as a failure."""
        self._report.set(replace(self._report.value, closed=True))

    async def Check(  # noqa: N802 -- the protocol's name
        self, request: Any, context: grpc.aio.ServicerContext[Any, Any]
    ) -> Any:
        """Answer with the status of a service, NOT_FOUND if there is none of that name.

        The metadata at its end says which endpoints this server is.
        """
        context.set_trailing_metadata(introduce(self._endpoints()))
        status = self._report.value.statuses.get(request.service)
        if status is None:
            await context.abort(
                grpc.StatusCode.NOT_FOUND, f"no service {request.service!r} on this server"
            )
        return health_pb2.HealthCheckResponse(status=status)

    async def List(  # noqa: N802 -- the protocol's name
        self,
        request: Any,  # noqa: ARG002 -- it has no fields
        context: grpc.aio.ServicerContext[Any, Any],  # noqa: ARG002
    ) -> Any:
        """Answer with the status of every service."""
        statuses = self._report.value.statuses.items()
        answers = {name: health_pb2.HealthCheckResponse(status=status) for name, status in statuses}
        return health_pb2.HealthListResponse(statuses=answers)

    async def Watch(  # noqa: N802 -- the protocol's name
        self, request: Any, context: grpc.aio.ServicerContext[Any, Any]
    ) -> None:
        """Tell the status of a service now and each time it changes, until `close`."""
        told = None
        while True:
            report = self._report.value
            status = report.statuses.get(request.service, _UNKNOWN)
            if status != told:
                await context.write(health_pb2.HealthCheckResponse(status=status))
                told = status
            if report.closed:
                return
            if self._report.value is report:
                await self._report.changed()
