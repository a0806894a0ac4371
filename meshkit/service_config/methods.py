"""What a service config says of single methods: timeouts, retries, hedging, sizes.

Source: `MethodConfig` of grpc-proto's service_config.proto; gRFC A6 for retries and hedging.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final, final

from meshkit.errors import ConfigError
from meshkit.fields import (
    Duration,
    FieldError,
    Integer,
    Number,
    Seconds,
    StatusCodes,
    StatusNames,
    check,
)

__all__ = ["HedgingPolicy", "MethodConfig", "MethodName", "RetryPolicy"]

_ATTEMPTS: Final = Integer(2, cap=5)  # more count as 5 and are no error (gRFC A6)
_BYTES: Final = Integer(0, 2**32 - 1)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How calls that failed are tried again (gRFC A6).

    Attributes:
        max_attempts: the first one included; more than 5 count as 5.
        initial_backoff: seconds before the first retry, before jitter.
        max_backoff: seconds that no delay exceeds, before jitter.
        backoff_multiplier: by which each delay is longer than the one before.
        retryable_status_codes: names of the codes that are tried again.
    """

    max_attempts: Annotated[int, _ATTEMPTS]
    initial_backoff: Annotated[float, Duration(above=0)]
    max_backoff: Annotated[float, Duration(above=0)]
    backoff_multiplier: Annotated[float, Number(above=0)]
    retryable_status_codes: Annotated[frozenset[str], StatusNames(at_least=1)]

    def __post_init__(self) -> None:
        check(self)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class HedgingPolicy:
    """How calls that are slow are sent again, to be answered by whoever is first (gRFC A6).

    Attributes:
        max_attempts: the first one included; more than 5 count as 5.
        hedging_delay: seconds between one attempt and the next; 0: all at once.
        hedging_percentile: of the latest latencies of the service; where that many are known, the
            delay is that latency, and at least `hedging_delay`. Of meshkit: gRPC has none.
        non_fatal_status_codes: names of the codes after which other attempts go on.
    """

    max_attempts: Annotated[int, _ATTEMPTS]
    hedging_delay: Seconds = 0.0
    hedging_percentile: Annotated[float, Number(1, 99.9)] | None = None
    non_fatal_status_codes: StatusCodes = frozenset()

    def __post_init__(self) -> None:
        check(self)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class MethodName:
    """A method, or all of a service, or (empty) all there are.

    Attributes:
        service: with its package: `helloworld.Greeter`.
        method: `SayHello`; empty: all of the service.
    """

    service: str = ""
    method: str = ""

    def __post_init__(self) -> None:
        if self.method and not self.service:
            raise FieldError("service", "is required where there is a method")
        if self.service.startswith("/") or self.service.endswith("/"):
            raise FieldError("service", f"must be written without '/', got {self.service!r}")
        if "/" in self.method:
            raise FieldError("method", f"must be written without '/', got {self.method!r}")

    def __str__(self) -> str:
        """`/helloworld.Greeter/*`, for people."""
        return f"/{self.service}/{self.method or '*'}" if self.service else "*"

    @property
    def path(self) -> str:
        """As calls have it: `/helloworld.Greeter/SayHello`, `/helloworld.Greeter/`, or empty."""
        return f"/{self.service}/{self.method}" if self.service else ""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class MethodConfig:
    """How calls of some methods are made; None: it does not say.

    Attributes:
        name: the methods; without any it is of no effect.
        timeout: seconds that a call may take at most; the caller's own is used if it is shorter.
        wait_for_ready: whether a call that does not say waits while no endpoint can be reached.
        max_request_message_bytes: a request that is larger is not sent (RESOURCE_EXHAUSTED). Holds
            for connections that are made later.
        max_response_message_bytes: a response that is larger is not taken (RESOURCE_EXHAUSTED).
            Holds for connections that are made later.
        retry_policy: how failed calls are tried again; not together with hedging.
        hedging_policy: how slow calls are sent again.
    """

    name: tuple[MethodName, ...] = ()
    timeout: Seconds | None = None
    wait_for_ready: bool | None = None
    max_request_message_bytes: Annotated[int, _BYTES] | None = None
    max_response_message_bytes: Annotated[int, _BYTES] | None = None
    retry_policy: RetryPolicy | None = None
    hedging_policy: HedgingPolicy | None = None

    def __post_init__(self) -> None:
        check(self)
        if self.retry_policy is not None and self.hedging_policy is not None:
            raise ConfigError("retryPolicy and hedgingPolicy cannot be given both")
