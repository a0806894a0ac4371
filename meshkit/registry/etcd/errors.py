"""What a refusal of etcd means, read off its status and text.

etcd says several things with one status code, so the texts of its
`api/v3rpc/rpctypes/error.go` decide where they have to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import grpc
import grpc.aio

from meshkit.errors import RegistryAuthError, RegistryError, RegistryUnavailable
from meshkit.registry.store import Compacted, LeaseGone

__all__ = ["AuthDisabled", "TokenRefused", "mapped", "meaning"]


class TokenRefused(RegistryAuthError):  # noqa: N818 -- reads as the state it is
    """Raised when the auth token is unknown, too old or missing: a new one may help."""


class AuthDisabled(RegistryError):  # noqa: N818 -- reads as the state it is
    """Raised when credentials are offered to a cluster that asks for none."""


_BY_TEXT: Final[tuple[tuple[str, type[RegistryError]], ...]] = (
    ("invalid auth token", TokenRefused),
    ("revision of auth store is old", TokenRefused),
    ("user name is empty", TokenRefused),
    ("authentication is not enabled", AuthDisabled),
    ("authentication failed", RegistryAuthError),
    ("permission denied", RegistryAuthError),
    ("requested lease not found", LeaseGone),
    ("revision has been compacted", Compacted),
    ("is a future revision", Compacted),
)

_BY_CODE: Final[dict[grpc.StatusCode, type[RegistryError]]] = {
    grpc.StatusCode.UNAUTHENTICATED: TokenRefused,
    grpc.StatusCode.PERMISSION_DENIED: RegistryAuthError,
    # These are about the request itself: asking again, or somebody else, would not help.
    grpc.StatusCode.INVALID_ARGUMENT: RegistryError,
    grpc.StatusCode.FAILED_PRECONDITION: RegistryError,
    grpc.StatusCode.OUT_OF_RANGE: RegistryError,
    grpc.StatusCode.NOT_FOUND: RegistryError,
}


def meaning(code: grpc.StatusCode, details: str) -> type[RegistryError]:
    """The error that a status stands for; `RegistryUnavailable` unless it says otherwise."""
    for text, error in _BY_TEXT:
        if text in details:
            return error
    return _BY_CODE.get(code, RegistryUnavailable)


def _hint(details: str) -> str:
    """What may be the matter with a connection that was made and ended before a word was said."""
    if not details.startswith("failed to connect"):
        return ""
    if "Handshake read failed" in details or "WRONG_VERSION_NUMBER" in details:
        return " (does it speak TLS? etcd:// is for one that does not)"
    if details.endswith("Socket closed"):
        return " (does it speak TLS? then write etcds://)"
    return ""


@contextmanager
def mapped(endpoint: str) -> Iterator[None]:
    """Turn what gRPC raises inside the block into an error of the registry at `endpoint`."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        details = error.details() or ""
        kind = meaning(error.code(), details)
        words = f"etcd at {endpoint}: {error.code().name} {details}{_hint(details)}"
        raise kind(words) from error
    except (grpc.aio.UsageError, asyncio.InvalidStateError) as error:
        # The channel was closed before the request, or the stream had ended before the message.
        raise RegistryUnavailable(f"etcd at {endpoint}: the connection is closed") from error
