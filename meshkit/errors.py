"""What can go wrong, by what the caller should do about it.

```text
MeshError
|- ConfigError (ValueError)              fix the argument, the URL or the environment
|- MeshClosedError (RuntimeError)        it was used after its block ended, or in a forked child
`- RegistryError                         the registry said no
   |- RegistryUnavailable (ConnectionError) it cannot be reached now; try again
   `- RegistryAuthError                     credentials or rights are missing; somebody must act
```

On the call path there is only `grpc.aio.AioRpcError`, as with any gRPC channel.
"""

from __future__ import annotations

__all__ = [
    "ConfigError",
    "MeshClosedError",
    "MeshError",
    "RegistryAuthError",
    "RegistryError",
    "RegistryUnavailable",
]


class MeshError(Exception):
    """Any error that meshkit itself raises."""


class ConfigError(MeshError, ValueError):
    """Raised when an argument, URL or variable cannot be used; the text says what can."""


class MeshClosedError(MeshError, RuntimeError):
    """Raised when something is used after its block ended, or in a forked child."""


class RegistryError(MeshError):
    """Raised when the registry refused an operation."""


class RegistryUnavailable(RegistryError, ConnectionError):  # noqa: N818 -- reads as the state it is
    """Raised when the registry cannot be reached or does not answer in time."""


class RegistryAuthError(RegistryError):
    """Raised when the registry refuses our credentials, or our credentials do not allow this."""
