"""Who is let in while the server has much to do, and what the others are told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, TypeAlias, final

import grpc

from meshkit.events import CallsRefused, Emit
from meshkit.server.limit import Limiter, Place

__all__ = ["Gate"]

RpcMethodHandler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"

_PUSHBACK: Final = "grpc-retry-pushback-ms"  # gRFC A6: when the client may try again
_QUIET: Final = 10.0  # seconds without refusals, after which the next one is news again


@final
class Gate:
    """Lets calls in as its limiter says, and answers those that it does not.

    A refused call has reached no handler, and none of its messages was read.
    """

    def __init__(self, limiter: Limiter, emit: Emit) -> None:
        self.limiter: Final = limiter
        self.enter: Final[Callable[[float], Place | None]] = limiter.enter
        self.leave: Final[Callable[[Place, str, float], None]] = limiter.leave
        self._emit = emit
        self._refused_at = float("-inf")
        self._refusal: RpcMethodHandler = grpc.stream_stream_rpc_method_handler(self._refuse)

    def found(self, place: Place, handler: RpcMethodHandler) -> None:
        """The handler of a call that was let in is known."""
        if handler.request_streaming or handler.response_streaming:
            self.limiter.free(place)

    def refusal(self) -> RpcMethodHandler:
        """What answers a call that was not let in, whatever its shape."""
        now = asyncio.get_running_loop().time()
        if now - self._refused_at > _QUIET:
            self._emit(CallsRefused(self.limiter.limit))
        self._refused_at = now
        return self._refusal

    async def _refuse(self, _: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        after = max(1, round(self.limiter.pushback() * 1000))
        await context.abort(
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            f"meshkit: this server works on {self.limiter.limit} calls, and takes no more. "
            "Next: another server, or this one a moment later.",
            ((_PUSHBACK, str(after)),),
        )
