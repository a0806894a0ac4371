"""RDS: which calls of a service go to which of its clusters, and how they are tried again."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any, Final

from envoy.config.route.v3 import route_components_pb2 as parts
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.retry.host.previous_hosts.v3.previous_hosts_pb2 import PreviousHostsPredicate
from google.protobuf.duration_pb2 import Duration

from meshkit.balancer import EVERY, Selector
from meshkit.service_config import (
    Fallback,
    HeaderMatch,
    MethodConfig,
    MethodName,
    RetryPolicy,
    Route,
    RouteMatch,
    ServiceConfig,
)
from meshkit.service_config.routes import Destination
from meshkit.xds.names import BY_AUTHORITY, Family, cluster_name
from meshkit.xds.policies import duration, hash_header
from meshkit.xds.resources import pack

__all__ = ["route_by_authority", "route_to", "selectors_of", "virtual_host"]

_RETRYABLE: Final = (
    "CANCELLED",
    "DEADLINE_EXCEEDED",
    "INTERNAL",
    "RESOURCE_EXHAUSTED",
    "UNAVAILABLE",
)
"""The codes that xDS has a word for (gRFC A44)."""
_NEVER_SENT: Final = ("connect-failure", "refused-stream")
"""Such calls have reached nobody: gRPC's own clients try them again unasked, so Envoy should."""
_CUT_OFF: Final = "reset"
"""Of a connection that ends Envoy makes UNAVAILABLE only after it has asked for retries."""
_REPICKS: Final = 20
"""A dead endpoint has no calls under way, so that LEAST_REQUEST likes it best: 3 were too few."""
_NEVER_SENT_RETRIES: Final = 2
_REST: Final = Route(destinations=(Destination(),))  # calls that no rule matches go to any
_UNAVAILABLE: Final = 503  # which Envoy makes UNAVAILABLE for gRPC


def selectors_of(config: ServiceConfig) -> tuple[Selector, ...]:
    """All subsets of endpoints that the routes know; the first one takes all."""
    found = {EVERY: None}
    for route in config.routes or ():
        found.update((each.selector, None) for each in route.destinations if each.weight)
    return tuple(found)


def route_to(service: str, host: Any) -> Any:
    """The `RouteConfiguration` of calls that are for this service, whatever their authority."""
    found = RouteConfiguration(name=service)
    found.virtual_hosts.add().CopyFrom(host)
    del found.virtual_hosts[0].domains[:]
    found.virtual_hosts[0].domains.append("*")
    return found


def route_by_authority(hosts: Iterable[Any]) -> Any:
    """The `RouteConfiguration` of calls that name their service; of `hosts`, by service name."""
    found = RouteConfiguration(name=BY_AUTHORITY, ignore_port_in_host_matching=True)
    found.virtual_hosts.extend(hosts)
    rest = found.virtual_hosts.add(name="*", domains=["*"])
    answer = rest.routes.add(match=parts.RouteMatch(prefix="")).direct_response
    answer.status = _UNAVAILABLE
    answer.body.inline_string = "meshkit: the authority names no service of this registry"
    return found


def virtual_host(
    service: str, config: ServiceConfig, known: Collection[Selector], family: Family
) -> Any:
    """The `VirtualHost` of a service, found by its name.

    Args:
        service: its name.
        config: what holds, defaults included.
        known: the subsets that have endpoints which take calls.
        family: whose clients.
    """
    found = parts.VirtualHost(name=service, domains=[service])
    for rule in (*(config.routes or ()), _REST):
        clusters = _clusters(service, rule, known)
        for match, method in _by_method(rule.match, config):
            route = found.routes.add(name=rule.name, match=_match(match, family))
            _send(route.route, clusters)
            _hash(route.route, rule, config, family)
            if family is Family.ENVOY:
                _unlimit(route.route, method)
            _retry(route.route, method.retry_policy, family)
    return found


def _clusters(service: str, rule: Route, known: Collection[Selector]) -> dict[str, int]:
    """The clusters of a rule, each with its weight: those that have endpoints, if any has."""
    wanted = {each.selector: each.weight for each in rule.destinations if each.weight}
    if rule.fallback is not Fallback.NO_FALLBACK:
        there = {selector: weight for selector, weight in wanted.items() if selector in known}
        if not there and rule.fallback is Fallback.ANY_ENDPOINT:
            there = {EVERY: 1}
        wanted = there or wanted
    return {cluster_name(service, selector): weight for selector, weight in wanted.items()}


def _by_method(
    match: RouteMatch, config: ServiceConfig
) -> Iterator[tuple[RouteMatch, MethodConfig]]:
    """The parts of `match` for which methods are configured apart, the most specific first."""
    names = {name.path: name for entry in config.method_config for name in entry.name}
    for path in sorted(filter(None, names), key=len, reverse=True):
        narrower = _narrowed(match, names[path])
        if narrower is not None:
            yield narrower, config.for_method(path)
    yield match, config.for_method(_example(match))


def _narrowed(match: RouteMatch, name: MethodName) -> RouteMatch | None:
    """What of `match` is for the methods of `name`; None: nothing, or it says nothing new."""
    if match.path is not None:
        return None  # one method; its config is looked up
    prefix = match.prefix or ""
    if name.method:
        taken = name.path.startswith(prefix)
        return RouteMatch(path=name.path, headers=match.headers) if taken else None
    if name.path.startswith(prefix) and name.path != prefix:
        return RouteMatch(prefix=name.path, headers=match.headers)
    return None


def _example(match: RouteMatch) -> str:
    """A method for which the config is that of all of `match` which no narrower part takes."""
    return match.path or (match.prefix or "") + "\0"


def _match(match: RouteMatch, family: Family) -> Any:
    found = parts.RouteMatch()
    if match.path is not None:
        found.path = match.path
    else:
        found.prefix = match.prefix or ""
    found.headers.extend(_header(header, family) for header in match.headers)
    return found


def _header(header: HeaderMatch, family: Family) -> Any:
    found = parts.HeaderMatcher(name=header.name, invert_match=header.invert)
    if header.present is not None:
        found.present_match = header.present
        return found
    for kind in ("exact", "prefix", "suffix"):
        if (text := getattr(header, kind)) is not None:
            if family is Family.ENVOY:
                setattr(found.string_match, kind, text)
            else:  # as all clients of gRPC know it, the oldest included
                setattr(found, f"{kind}_match", text)
    return found


def _send(action: Any, clusters: dict[str, int]) -> None:
    if len(clusters) == 1:
        [action.cluster] = clusters
        return
    for name, weight in clusters.items():
        action.weighted_clusters.clusters.add(name=name).weight.value = weight


def _hash(action: Any, rule: Route, config: ServiceConfig, family: Family) -> None:
    """By what header endpoints are chosen; in Envoy, the clusters of the rule as well."""
    header = hash_header(config.load_balancing_config)
    if family is Family.ENVOY and isinstance(rule.key, str) and rule.key:
        header = rule.key
        if action.HasField("weighted_clusters"):
            action.weighted_clusters.use_hash_policy.value = True
    if header:
        action.hash_policy.add().header.header_name = header


def _unlimit(action: Any, method: MethodConfig) -> None:
    """Envoy's own limit of 15 s is off; the one of the config holds, as far as there is any."""
    action.timeout.CopyFrom(Duration())
    if method.timeout is not None:
        limit = duration(method.timeout)
        action.max_stream_duration.max_stream_duration.CopyFrom(limit)
        action.max_stream_duration.grpc_timeout_header_max.CopyFrom(limit)


def _retry(action: Any, policy: RetryPolicy | None, family: Family) -> None:
    codes = policy.retryable_status_codes if policy is not None else ()
    words = [code.lower().replace("_", "-") for code in _RETRYABLE if code in codes]
    if family is Family.ENVOY:
        words += _NEVER_SENT
        if "UNAVAILABLE" in codes:
            words.append(_CUT_OFF)
        previous = action.retry_policy.retry_host_predicate.add()
        previous.name = "envoy.retry_host_predicates.previous_hosts"
        previous.typed_config.CopyFrom(pack(PreviousHostsPredicate()))
        action.retry_policy.host_selection_retry_max_attempts = _REPICKS
    if not words:
        return
    retry = action.retry_policy
    retry.retry_on = ",".join(words)
    retry.num_retries.value = policy.max_attempts - 1 if policy else _NEVER_SENT_RETRIES
    if policy is not None:
        first = min(policy.initial_backoff, policy.max_backoff)
        retry.retry_back_off.base_interval.CopyFrom(duration(max(first, 0.001)))
        retry.retry_back_off.max_interval.CopyFrom(duration(max(policy.max_backoff, 0.001)))
