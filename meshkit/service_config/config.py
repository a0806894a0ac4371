"""gRPC's service config: how the clients of a service make their calls.

Source: grpc-proto's service_config.proto; gRFC A6, A17, A24.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, NoReturn, TypeAlias, final

from meshkit.balancer import (
    DEFAULT_POLICY,
    POLICIES,
    CircuitBreaker,
    OutlierDetection,
    Policy,
    SlowStart,
    Subsetting,
    ZoneAware,
    policy_named,
)
from meshkit.errors import ConfigError
from meshkit.fields import FieldError, Integer, Number, Place, check, from_json, to_json
from meshkit.service_config.methods import MethodConfig
from meshkit.service_config.policies import PolicyList, modernized, unwrapped
from meshkit.service_config.routes import Route

__all__ = [
    "DEFAULTS",
    "HealthCheckConfig",
    "RetryThrottling",
    "ServiceConfig",
    "ServiceConfigSource",
    "document",
]

_NO_METHOD_CONFIG: Final = MethodConfig()


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RetryThrottling:
    """When retries and hedges pause because too much fails (gRFC A6).

    Attributes:
        max_tokens: a failure takes one; at half of them or fewer nothing is tried again.
        token_ratio: what a success gives back; digits after the third decimal are cut off.
    """

    max_tokens: Annotated[int, Integer(1, 1000)]
    token_ratio: Annotated[float, Number(above=0, decimals=3)]

    def __post_init__(self) -> None:
        check(self)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class HealthCheckConfig:
    """Whose health the connections watch that are made from now on (gRFC A17).

    Attributes:
        service_name: as the server's health service knows it; empty: the whole server's.
    """

    service_name: str = ""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceConfig:
    """How the clients of a service make their calls; None: it does not say.

    Attributes:
        load_balancing_config: the policy that chooses an endpoint for each call.
        method_config: for methods by name; the most specific one that names a method holds.
        retry_throttling: when retries pause.
        health_check_config: whose health the connections watch.
        outlier_detection: when endpoints whose calls fail get none for a while (gRFC A50). In gRPC
            it is a policy with a child, which is read as well.
        circuit_breaker: how many calls are under way at a time. Of meshkit.
        slow_start: how new endpoints grow into their share. Of meshkit.
        subsetting: to how many endpoints each client connects (gRFC A68); without it, to all. In
            gRPC it is a policy with a child, which is read as well.
        zone_aware: how a client with a zone prefers the endpoints there. Of meshkit.
        routes: which calls go to which endpoints; the first one that matches a call holds, and a
            call that none matches goes to any. Of meshkit; in words of xDS (gRFC A28).
    """

    WITHOUT_EFFECT: ClassVar = ("connectionScaling",)  # gRFC A105: more connections to one endpoint

    load_balancing_config: Annotated[Policy, PolicyList(POLICIES)] | None = None
    method_config: tuple[MethodConfig, ...] = ()
    retry_throttling: RetryThrottling | None = None
    health_check_config: HealthCheckConfig | None = None
    outlier_detection: OutlierDetection | None = None
    circuit_breaker: CircuitBreaker | None = None
    slow_start: SlowStart | None = None
    subsetting: Subsetting | None = None
    zone_aware: ZoneAware | None = None
    routes: tuple[Route, ...] | None = None
    _by_path: Mapping[str, MethodConfig] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_path", _by_path(self.method_config))

    @classmethod
    def parse(
        cls, source: ServiceConfigSource, *, unknown: list[str] | None = None
    ) -> ServiceConfig:
        """The service config in JSON, in a file of it, or in a mapping as JSON has it.

        Args:
            source: what to read; a text is JSON, a `Path` a file.
            unknown: receives the paths of fields that nobody knows, as gRPC ignores them. Without
                it they are errors, so that a typing mistake is one.

        Raises:
            FieldError: (a `ConfigError`) something cannot be used; the text begins with its path.
            ConfigError: the file cannot be read.
        """
        if isinstance(source, ServiceConfig):
            return source
        document = _decoded(source)
        place = Place(unknown=unknown)
        if not isinstance(document, Mapping):
            return from_json(cls, document, place)
        found, document = unwrapped(modernized(document), place)
        return replace(from_json(cls, document, place), **found)

    def to_json(self) -> dict[str, Any]:
        """The config as JSON has it; what is not said is left out."""
        return to_json(self)

    def for_method(self, path: str) -> MethodConfig:
        """What holds for the method at `path`, such as `/helloworld.Greeter/SayHello`.

        The entry that names the method, else the one for its service, else the one for all.
        """
        service = path[: path.rfind("/") + 1]
        for name in (path, service, ""):
            if (found := self._by_path.get(name)) is not None:
                return found
        return _NO_METHOD_CONFIG


ServiceConfigSource: TypeAlias = ServiceConfig | Mapping[str, Any] | str | bytes | Path
"""A config, JSON as a mapping or a text, or the `Path` of a file of it."""


def document(source: ServiceConfigSource) -> bytes:
    """The JSON of a config that others will read; what only they know stays in it.

    Raises:
        FieldError: (a `ConfigError`) something cannot be used; the text begins with its path.
        ConfigError: the file cannot be read, or a policy has no name in JSON.
    """
    ServiceConfig.parse(source)
    given = source.to_json() if isinstance(source, ServiceConfig) else _decoded(source)
    try:
        return json.dumps(given, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError) as error:  # in the parameters of an unknown policy
        raise Place().error(f"no JSON: {error}") from None


def _by_path(configs: tuple[MethodConfig, ...]) -> Mapping[str, MethodConfig]:
    """Each config by the paths it names; a name must be given once only."""
    found: dict[str, MethodConfig] = {}
    places: dict[str, str] = {}
    for i, config in enumerate(configs):
        for j, name in enumerate(config.name):
            place = f"methodConfig[{i}].name[{j}]"
            if name.path in places:
                raise FieldError(place, f"{name} is in {places[name.path]} already")
            found[name.path] = config
            places[name.path] = place
    return found


def _decoded(source: Mapping[str, Any] | str | bytes | Path) -> object:
    if isinstance(source, Mapping):
        return source
    text = _text(source) if isinstance(source, Path) else source
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_refuse)
    except RecursionError:
        raise Place().error("JSON nested too deep") from None
    except ValueError as error:  # no JSON, or no UTF-8
        raise Place().error(f"no JSON: {error}") from None


def _text(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read the service config {path}: {error.strerror}") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"an object has the field {twice!r} twice")
    return found


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number in JSON")


DEFAULTS: Final = ServiceConfig(
    load_balancing_config=policy_named(DEFAULT_POLICY),
    outlier_detection=OutlierDetection(),
    circuit_breaker=CircuitBreaker(),
    slow_start=SlowStart(),
    zone_aware=ZoneAware(),
)
"""What holds where nobody says anything."""
