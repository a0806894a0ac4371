"""From a servicer to what a gRPC server needs: the generated `add_XServicer_to_server`.

protoc's Python plugin puts that function beside the base class `XServicer` in `*_pb2_grpc.py`;
so the classes a servicer descends from lead to it.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias, final

import grpc

from meshkit.errors import ConfigError

__all__ = ["Adder", "HandlerTable", "add_services", "adders_of"]


class HandlerTable(Protocol):
    """What generated code asks of a server."""

    def add_generic_rpc_handlers(self, handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        """Take handlers that find a method by its name."""
        ...

    def add_registered_method_handlers(
        self, service: str, handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]]
    ) -> None:
        """Take handlers by method, for a quicker look-up; generated since grpcio-tools 1.64."""
        ...


Adder: TypeAlias = Callable[[Any], None]  # called with a HandlerTable


def adders_of(servicer: object) -> tuple[Adder, ...]:
    """The functions that add `servicer` to a server, one for each proto service it implements.

    Args:
        servicer: an object whose class descends from generated `XServicer` classes; or, for
            anything else gRPC can serve, a function that takes the server and adds to it.

    Raises:
        ConfigError: it is neither.
    """
    if isinstance(servicer, type):
        name = servicer.__name__
        raise ConfigError(f"{name} is a class; serve an object of it: {name}()")
    found: dict[Callable[..., None], None] = {}  # a dict, for its order
    tried = []
    for cls in type(servicer).__mro__[:-1]:
        function = f"add_{cls.__name__}_to_server"
        tried.append(f"{cls.__module__}.{function}")
        add = getattr(sys.modules.get(cls.__module__), function, None)
        if callable(add):
            found[add] = None
    if found:
        return tuple(functools.partial(add, servicer) for add in found)
    if callable(servicer):
        return (servicer,)
    why = f": none of {', '.join(tried)} exists" if tried else ""
    raise ConfigError(
        f"{type(servicer).__name__} does not implement a generated gRPC service{why}. "
        "Derive it from the XServicer class of your *_pb2_grpc module, or pass a function that "
        "takes the server and adds to it"
    )


def add_services(services: Mapping[str, object], server: HandlerTable) -> tuple[str, ...]:
    """Add every servicer to `server`; the full names of the proto services they implement.

    Args:
        services: servicers by mesh service name; one servicer may have several names.
        server: a server that has not been started.

    Raises:
        ConfigError: a servicer cannot be added, or two implement the same proto service:
            calls name only that, so a server could not tell them apart.
    """
    owners: dict[str, str] = {}
    done: list[object] = []
    for name, servicer in services.items():
        if any(servicer is other for other in done):
            continue
        done.append(servicer)
        recorder = _Recorder(server)
        for add in adders_of(servicer):
            add(recorder)
        for proto in recorder.names:
            if proto in owners:
                raise ConfigError(
                    f"{name!r} and {owners[proto]!r} both implement {proto}; "
                    "one server can have only one of them: serve them apart"
                )
            owners[proto] = name
    return tuple(owners)


@final
class _Recorder:
    """Stands between generated code and the server to learn the names of the services."""

    def __init__(self, server: HandlerTable) -> None:
        self._server = server
        self.names: dict[str, None] = {}

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        for handler in handlers:
            if isinstance(handler, grpc.ServiceRpcHandler):
                self.names[handler.service_name()] = None
        self._server.add_generic_rpc_handlers(handlers)

    def add_registered_method_handlers(
        self, service: str, handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]]
    ) -> None:
        self.names[service] = None
        self._server.add_registered_method_handlers(service, handlers)
