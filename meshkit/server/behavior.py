"""What is put around the functions that handle calls: each learns how long its caller waits.

grpc.aio tells coroutines, async generators and functions for threads apart by looking at them, and
looks through a `functools.partial`. So that is what stands before a handler's function: it runs
once a call, makes no coroutine of its own, and costs a message nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, TypeAlias, final

import grpc

from meshkit.deadline import serve_until

__all__ = ["Behavior", "Surroundings", "WithDeadline", "around"]

Behavior: TypeAlias = Callable[[Any, Any], Any]  # of a request or requests, and the call's context
RpcMethodHandler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"

_KNOWN: Final = 256  # methods; a generic handler may answer to any name
_MAKERS: Final[Mapping[tuple[bool, bool], tuple[str, Callable[..., RpcMethodHandler]]]] = (
    MappingProxyType(
        {
            (False, False): ("unary_unary", grpc.unary_unary_rpc_method_handler),
            (False, True): ("unary_stream", grpc.unary_stream_rpc_method_handler),
            (True, False): ("stream_unary", grpc.stream_unary_rpc_method_handler),
            (True, True): ("stream_stream", grpc.stream_stream_rpc_method_handler),
        }
    )
)


def around(handler: RpcMethodHandler, surround: Callable[[Behavior], Behavior]) -> RpcMethodHandler:
    """The same as `handler`, with what `surround` makes of its function."""
    shape, make = _MAKERS[bool(handler.request_streaming), bool(handler.response_streaming)]
    behavior = surround(getattr(handler, shape))
    return make(behavior, handler.request_deserializer, handler.response_serializer)


@final
class Surroundings:
    """Puts something around each handler, once for a handler that stays.

    Args:
        surround: what to make of a function that handles calls, given the method's full name and
            whether its responses are a stream.
    """

    def __init__(self, surround: Callable[[Behavior, str, bool], Behavior]) -> None:
        self._surround = surround
        self._known: dict[str, tuple[RpcMethodHandler, RpcMethodHandler]] = {}

    def of(self, method: str, handler: RpcMethodHandler) -> RpcMethodHandler:
        """What to call in the place of `handler`."""
        known = self._known.get(method)
        if known is not None and known[0] is handler:
            return known[1]
        streams = bool(handler.response_streaming)
        made = around(handler, lambda behavior: self._surround(behavior, method, streams))
        if len(self._known) >= _KNOWN:
            self._known.clear()
        self._known[method] = handler, made
        return made


@final
class WithDeadline(functools.partial[Any]):
    """A handler's function whose outgoing calls inherit the deadline of the call it serves.

    Attributes:
        method: the full name of the method.
        on_none: told of the method when a call has no deadline; None: that is nothing to tell.
    """

    method: str
    on_none: Callable[[str], None] | None

    def __call__(self, request: Any, context: Any) -> Any:
        """Note the deadline, then handle the call."""
        seconds = context.time_remaining()
        if seconds is None and self.on_none is not None:
            self.on_none(self.method)
        serve_until(self.method, seconds)
        return super().__call__(request, context)

    @classmethod
    def of(
        cls, behavior: Behavior, method: str, on_none: Callable[[str], None] | None
    ) -> WithDeadline:
        """`behavior`, with the deadline of each call of `method`."""
        made = cls(behavior)
        made.method, made.on_none = method, on_none
        return made
