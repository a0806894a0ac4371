"""Why there is no endpoint for a call, and what to do about it: for people."""

from __future__ import annotations

import grpc
import grpc.aio

from meshkit.balancer import EVERY, Counts, Selector
from meshkit.discovery import Resolution, Watch

__all__ = ["explain", "rpc_error"]


def rpc_error(code: grpc.StatusCode, details: str) -> grpc.aio.AioRpcError:
    """An error as grpc.aio raises it, for a call that has no server to speak for it."""
    empty = grpc.aio.Metadata()
    return grpc.aio.AioRpcError(code, empty, empty, details=details, debug_error_string=details)


def explain(
    service: str,
    resolution: Resolution,
    watch: Watch | None,
    *,
    selector: Selector,
    counts: Counts,
    cause: str,
) -> str:
    """The details of the error for a call that cannot be sent.

    There are different "no": the endpoints are not known, there are none, none is what a route
    asks for, none is ready, and all that are connected were ejected.

    Args:
        service: the service's name.
        resolution: what is known of it.
        watch: where that comes from; None before anybody was asked.
        selector: which of its endpoints the call may go to.
        counts: those by state.
        cause: the last error of a connection, or "".
    """
    endpoints = resolution.endpoints
    if endpoints is None:
        check = "runs and can be reached from here"
        if resolution.refused:
            check = "lets this client in: user, password, roles, TLS files"
        return (
            f"meshkit: endpoints of {service!r} are not known ({_where(watch, resolution)}): "
            f"{resolution.trouble or 'no answer yet'}. Next: check that the registry {check}."
        )
    if not endpoints:
        return (
            f"meshkit: nobody has registered {service!r} ({_where(watch, resolution)}). "
            "Next: start a server of it on this registry and namespace."
        )
    known, which = len(endpoints), repr(service)
    if selector != EVERY:
        known, which = sum(map(selector.takes, endpoints)), f"{service!r} with {selector}"
    if not known:
        return (
            f"meshkit: no endpoint of {which} is registered, and a route sends the call there "
            f"({_where(watch, resolution)}; {len(endpoints)} others). Next: start a server with "
            "that version and metadata, or change the routes or their fallback."
        )
    if counts.ejected:
        return (
            f"meshkit: all connected endpoints of {which} are ejected, since their calls "
            f"failed ({_where(watch, resolution)}; {known} known: {counts}). "
            "Next: endpoint.ejected says why; each is tried again from time to time."
        )
    last = f" Last error: {cause}." if cause else ""
    return (
        f"meshkit: no endpoint of {which} is ready ({_where(watch, resolution)}; "
        f"{known} known: {counts}).{last} "
        "Next: check that the servers run, are healthy and can be reached from here."
    )


def _where(watch: Watch | None, resolution: Resolution) -> str:
    if watch is None:
        return "registry not asked yet"
    age = watch.age()
    if age is None:
        synced = "never synced"
    elif resolution.from_cache:
        synced = f"from cache, {_long(age)} old"
    else:
        synced = f"synced {_long(age)} ago"
    return f"registry {watch.registry}, {synced}"


def _long(seconds: float) -> str:
    """Seconds as people say them: `0.4 s`, `12.0 min`, `3.2 h`, `8.0 days`."""
    for unit, name in ((86400.0, "days"), (3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.1f} {name}"
    return f"{seconds:.1f} s"
