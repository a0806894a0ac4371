"""What a stub calls: the four multicallables of a channel."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import grpc
import grpc.aio

from meshkit.client.hedged import HedgedUnaryStreamCall, HedgedUnaryUnaryCall
from meshkit.client.metadata import checked
from meshkit.client.retried import (
    RetriedStreamStreamCall,
    RetriedStreamUnaryCall,
    RetriedUnaryStreamCall,
    RetriedUnaryUnaryCall,
)
from meshkit.client.shapes import StreamStreamCall, StreamUnaryCall, UnaryStreamCall, UnaryUnaryCall
from meshkit.client.subchannel import Method

if TYPE_CHECKING:
    from meshkit.client.dispatch import Dispatch

__all__ = [
    "MethodFactory",
    "StreamStreamMultiCallable",
    "StreamUnaryMultiCallable",
    "UnaryStreamMultiCallable",
    "UnaryUnaryMultiCallable",
]

Serializer: TypeAlias = Callable[[Any], bytes]
Deserializer: TypeAlias = Callable[[bytes], Any]


def _options(
    metadata: Any, credentials: grpc.CallCredentials | None, compression: grpc.Compression | None
) -> Mapping[str, Any]:
    """What is handed to grpc.aio as it is, whichever connection the call is put on."""
    return {
        "metadata": checked(metadata),
        "credentials": credentials,
        "compression": compression,
    }


class _Planned:
    """Starts calls as the plan for their method says."""

    _call: Callable[..., Any]
    _retried: Callable[..., Any]
    _hedged: Callable[..., Any] | None = None  # request streams go to one endpoint at a time

    def __init__(self, dispatch: Dispatch, method: Method) -> None:
        self._dispatch = dispatch
        self._method = method
        self._plan = dispatch.plans.of(method.path)

    def _start_as_planned(
        self,
        request: Any,
        timeout: float | None,
        wait_for_ready: bool | None,
        options: Mapping[str, Any] | None,
    ) -> Any:
        plan = self._plan
        if plan.timeout is not None and (timeout is None or timeout > plan.timeout):
            timeout = plan.timeout
        if wait_for_ready is None:
            wait_for_ready = plan.wait_for_ready
        how = self._dispatch, self._method, request, timeout, wait_for_ready, options
        if plan.retry is not None:
            return self._retried(plan, *how)
        if plan.hedging is not None and self._hedged is not None:
            return self._hedged(plan, *how)
        return self._call(*how)


class _UnaryRequest(_Planned):
    def __call__(
        self,
        request: Any,
        *,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        options = None  # most calls have none
        if metadata is not None or credentials is not None or compression is not None:
            options = _options(metadata, credentials, compression)
        if self._plan.is_plain:
            return self._call(
                self._dispatch, self._method, request, timeout, wait_for_ready, options
            )
        return self._start_as_planned(request, timeout, wait_for_ready, options)


class _StreamRequest(_Planned):
    def __call__(
        self,
        request_iterator: Any = None,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        options = None  # most calls have none
        if metadata is not None or credentials is not None or compression is not None:
            options = _options(metadata, credentials, compression)
        if self._plan.is_plain:
            return self._call(
                self._dispatch, self._method, request_iterator, timeout, wait_for_ready, options
            )
        return self._start_as_planned(request_iterator, timeout, wait_for_ready, options)


class UnaryUnaryMultiCallable(_UnaryRequest, grpc.aio.UnaryUnaryMultiCallable[Any, Any]):
    """Starts calls with one request and one response."""

    _call = UnaryUnaryCall
    _retried = RetriedUnaryUnaryCall
    _hedged = HedgedUnaryUnaryCall


class UnaryStreamMultiCallable(_UnaryRequest, grpc.aio.UnaryStreamMultiCallable[Any, Any]):
    """Starts calls with one request and a stream of responses."""

    _call = UnaryStreamCall
    _retried = RetriedUnaryStreamCall
    _hedged = HedgedUnaryStreamCall


class StreamUnaryMultiCallable(_StreamRequest, grpc.aio.StreamUnaryMultiCallable[Any, Any]):
    """Starts calls with a stream of requests and one response."""

    _call = StreamUnaryCall
    _retried = RetriedStreamUnaryCall


class StreamStreamMultiCallable(_StreamRequest, grpc.aio.StreamStreamMultiCallable[Any, Any]):
    """Starts calls with a stream of requests and a stream of responses."""

    _call = StreamStreamCall
    _retried = RetriedStreamStreamCall


class MethodFactory(grpc.aio.Channel):
    """The half of a channel that needs to know of no endpoint: a callable for each method."""

    def __init__(self, dispatch: Dispatch) -> None:
        self._dispatch = dispatch

    def unary_unary(
        self,
        method: str,
        request_serializer: Serializer | None = None,
        response_deserializer: Deserializer | None = None,
        _registered_method: bool | None = False,
    ) -> UnaryUnaryMultiCallable:
        """A callable for a method with one request and one response."""
        how = request_serializer, response_deserializer, bool(_registered_method)
        return UnaryUnaryMultiCallable(self._dispatch, Method("unary_unary", method, *how))

    def unary_stream(
        self,
        method: str,
        request_serializer: Serializer | None = None,
        response_deserializer: Deserializer | None = None,
        _registered_method: bool | None = False,
    ) -> UnaryStreamMultiCallable:
        """A callable for a method with one request and a stream of responses."""
        how = request_serializer, response_deserializer, bool(_registered_method)
        return UnaryStreamMultiCallable(self._dispatch, Method("unary_stream", method, *how))

    def stream_unary(
        self,
        method: str,
        request_serializer: Serializer | None = None,
        response_deserializer: Deserializer | None = None,
        _registered_method: bool | None = False,
    ) -> StreamUnaryMultiCallable:
        """A callable for a method with a stream of requests and one response."""
        how = request_serializer, response_deserializer, bool(_registered_method)
        return StreamUnaryMultiCallable(self._dispatch, Method("stream_unary", method, *how))

    def stream_stream(
        self,
        method: str,
        request_serializer: Serializer | None = None,
        response_deserializer: Deserializer | None = None,
        _registered_method: bool | None = False,
    ) -> StreamStreamMultiCallable:
        """A callable for a method with streams both ways."""
        how = request_serializer, response_deserializer, bool(_registered_method)
        return StreamStreamMultiCallable(self._dispatch, Method("stream_stream", method, *how))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()
