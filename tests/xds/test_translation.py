"""What services look like in xDS: endpoints, clusters, routes, listeners, for both families."""

from __future__ import annotations

from collections import Counter

import pytest
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.health_check_pb2 import DRAINING
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as http,
)
from envoy.extensions.load_balancing_policies.least_request.v3.least_request_pb2 import (
    LeastRequest,
)
from envoy.extensions.load_balancing_policies.ring_hash.v3.ring_hash_pb2 import RingHash
from envoy.extensions.load_balancing_policies.wrr_locality.v3.wrr_locality_pb2 import WrrLocality
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import DownstreamTlsContext
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf.any_pb2 import Any
from hypothesis import given
from hypothesis import strategies as st

from meshkit import Endpoint, EndpointSet, ServiceConfig, State
from meshkit.balancer import POLICIES, Selector
from meshkit.xds.envoy import Port, TlsFiles
from meshkit.xds.exchange import Answer
from meshkit.xds.listeners import listener_of_port
from meshkit.xds.names import Family, cluster_name, is_service_name, service_of
from meshkit.xds.resources import CLUSTER, ENDPOINT, LISTENER, ROUTE, Resource, version_of
from meshkit.xds.routes import route_by_authority
from meshkit.xds.translation import Audience, Translation
from meshkit.xds.wire import Delta, StateOfTheWorld

GRPC, ENVOY = Audience(Family.GRPC), Audience(Family.ENVOY)
BOTH = pytest.mark.parametrize("audience", [GRPC, ENVOY], ids=["grpc", "envoy"])
KINDS = {
    LISTENER: Listener,
    ROUTE: RouteConfiguration,
    CLUSTER: Cluster,
    ENDPOINT: ClusterLoadAssignment,
}


def endpoint(number, **fields):
    given_fields = {"id": str(number), "address": f"10.0.0.{number}:50051", **fields}
    return Endpoint(service="s", **given_fields)


def translated(*endpoints, config=None, hosts=None, **more):
    parsed = None if config is None else ServiceConfig.parse(config)
    return Translation("s", EndpointSet.of("s", endpoints), parsed, hosts or {}, **more)


def message(resource: Resource):
    packed = Any.FromString(resource.packed)
    [kind] = [kind for kind in KINDS.values() if packed.Is(kind.DESCRIPTOR)]
    return kind.FromString(packed.value)


def localities(translation, audience=GRPC, name="s"):
    """Of each locality: its weight, and the addresses in it."""
    found = message(translation.find(ENDPOINT, name, audience))
    return {
        (each.locality.zone, each.locality.sub_zone): (
            each.load_balancing_weight.value,
            [e.endpoint.address.socket_address.address for e in each.lb_endpoints],
        )
        for each in found.endpoints
    }


# ---- endpoints


def test_for_grpc_endpoints_of_one_weight_share_a_locality():
    found = localities(translated(endpoint(1), endpoint(2), endpoint(3, weight=300)))
    assert found == {
        ("", "w100"): (200, ["10.0.0.1", "10.0.0.2"]),
        ("", "w300"): (300, ["10.0.0.3"]),
    }


def test_for_envoy_endpoints_have_weights_of_their_own():
    translation = translated(endpoint(1, zone="z"), endpoint(2, zone="z", weight=300))
    assert localities(translation, ENVOY) == {("z", ""): (400, ["10.0.0.1", "10.0.0.2"])}
    [locality] = message(translation.find(ENDPOINT, "s", ENVOY)).endpoints
    assert [e.load_balancing_weight.value for e in locality.lb_endpoints] == [100, 300]


@BOTH
def test_who_leaves_or_has_no_weight_gets_no_calls_but_ends_those_it_has(audience):
    translation = translated(endpoint(1), endpoint(2, state=State.DRAINING), endpoint(3, weight=0))
    found = message(translation.find(ENDPOINT, "s", audience))
    states = {
        e.endpoint.address.socket_address.address: e.health_status == DRAINING
        for locality in found.endpoints
        for e in locality.lb_endpoints
    }
    assert states == {"10.0.0.1": False, "10.0.0.2": True, "10.0.0.3": True}
    assert localities(translation, audience)["", "draining"][0] == 1


def test_names_of_hosts_are_left_out_until_they_are_known():
    both = (endpoint(1), endpoint(2, address="db:1"), endpoint(3, address="[::1]:1"))
    assert localities(translated(*both)) == {("", "w100"): (200, ["10.0.0.1", "::1"])}
    found = localities(translated(*both, hosts={"db": "10.9.9.9"}))
    assert found == {("", "w100"): (300, ["10.0.0.1", "10.9.9.9", "::1"])}


def test_an_address_is_there_once():
    """gRPC refuses a resource that has one twice."""
    same = (endpoint(1, address="db:1"), endpoint(2, address="10.9.9.9:1"))
    found = localities(translated(*same, hosts={"db": "10.9.9.9"}))
    assert found == {("", "w100"): (100, ["10.9.9.9"])}


def test_clients_with_a_zone_have_shares():
    fleet = [endpoint(n, zone=f"z{n % 3}") for n in range(9)]
    found = localities(translated(*fleet), Audience(Family.GRPC, "z1"))
    assert found["z1", "w100"][0] == 1_000_000
    assert {found[zone, "w100"][0] for zone in ("z0", "z2")} == {1}
    few = localities(translated(*fleet[:3]), Audience(Family.GRPC, "z1"))
    assert {weight for weight, _ in few.values()} == {100}


def test_a_zone_that_is_too_small_gives_calls_away():
    fleet = [endpoint(n, zone="z0" if n else "z1") for n in range(9)]
    found = localities(translated(*fleet), Audience(Family.GRPC, "z1"))
    assert 0 < found["z1", "w100"][0] < found["z0", "w100"][0]


def test_a_ring_has_one_locality():
    """gRPC multiplies the weights of localities and endpoints (gRFC A42)."""
    fleet = (endpoint(1, zone="a"), endpoint(2, zone="b", weight=300))
    translation = translated(*fleet, config={"loadBalancingConfig": [{"ring_hash": {}}]})
    assert localities(translation) == {("", ""): (400, ["10.0.0.1", "10.0.0.2"])}


def test_huge_weights_fit():
    found = localities(translated(*(endpoint(n, weight=2**32 - 1 - n) for n in range(1, 9))))
    weights = [weight for weight, _ in found.values()]
    assert min(weights) > 0
    assert sum(weights) < 2**32


ENDPOINTS = st.lists(
    st.builds(
        endpoint,
        st.integers(0, 255),
        weight=st.sampled_from([0, 1, 100, 300]),
        zone=st.sampled_from(["", "a", "b"]),
        state=st.sampled_from(list(State)),
    ),
    max_size=8,
)


@BOTH
@given(endpoints=ENDPOINTS)
def test_all_endpoints_are_there_once_and_weights_are_as_said(audience, endpoints):
    translation = translated(*endpoints)
    found = message(translation.find(ENDPOINT, "s", audience))
    addresses = [
        e.endpoint.address.socket_address.address
        for each in found.endpoints
        for e in each.lb_endpoints
    ]
    assert Counter(addresses) == Counter({e.address.partition(":")[0] for e in endpoints})
    taking = EndpointSet.of("s", endpoints)
    total = sum(e.weight for e in taking if e.state is State.SERVING)
    weights = [
        each.load_balancing_weight.value
        for each in found.endpoints
        if each.locality.sub_zone != "draining"
    ]
    assert sum(weights) == total
    assert all(each.load_balancing_weight.value for each in found.endpoints)


# ---- clusters


@BOTH
@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_ends_with_one_that_all_know(name, audience):
    translation = translated(config={"loadBalancingConfig": [{name: {}}]})
    policies = message(translation.find(CLUSTER, "s", audience)).load_balancing_policy.policies
    last = policies[-1].typed_extension_config
    if audience is GRPC:
        inner = WrrLocality.FromString(last.typed_config.value).endpoint_picking_policy.policies
        last = inner[-1].typed_extension_config
    assert last.name == "envoy.load_balancing_policies.round_robin"


def test_parameters_of_policies():
    ring = {"ring_hash": {"minRingSize": 77, "maxRingSize": 777}}
    found = message(translated(config={"loadBalancingConfig": [ring]}).find(CLUSTER, "s", GRPC))
    first = RingHash.FromString(
        found.load_balancing_policy.policies[0].typed_extension_config.typed_config.value
    )
    assert (first.minimum_ring_size.value, first.maximum_ring_size.value) == (77, 777)
    assert found.lb_policy == Cluster.RING_HASH
    found = message(
        translated(config={"loadBalancingConfig": [{"maglev": {}}]}).find(CLUSTER, "s", GRPC)
    )
    first = found.load_balancing_policy.policies[0].typed_extension_config.typed_config
    assert not RingHash.FromString(first.value).HasField("minimum_ring_size")  # as grpc-js needs
    least = {"least_request": {"choiceCount": 5}}
    found = message(translated(config={"loadBalancingConfig": [least]}).find(CLUSTER, "s", ENVOY))
    first = LeastRequest.FromString(
        found.load_balancing_policy.policies[0].typed_extension_config.typed_config.value
    )
    assert first.choice_count.value == 5


@BOTH
def test_there_is_no_limit_that_nobody_chose(audience):
    found = message(translated().find(CLUSTER, "s", audience))
    assert found.circuit_breakers.thresholds[0].max_requests.value == 2**32 - 1
    limited = translated(config={"circuitBreaker": {"maxRequests": 7}})
    found = message(limited.find(CLUSTER, "s", audience))
    assert found.circuit_breakers.thresholds[0].max_requests.value == 7


def outliers(audience, **config):
    translation = translated(config={"outlierDetection": config} if config else None)
    return message(translation.find(CLUSTER, "s", audience)).outlier_detection


@BOTH
def test_outliers(audience):
    rate = {"stdevFactor": 1000, "requestVolume": 7}
    found = outliers(audience, interval="2s", consecutiveFailures=0, successRateEjection=rate)
    assert found.interval.seconds == 2
    assert found.enforcing_consecutive_5xx.value == 0
    assert found.enforcing_success_rate.value == 100
    assert found.success_rate_stdev_factor.value == 1000
    assert found.success_rate_request_volume.value == 7
    plain = outliers(audience, interval="2s")
    assert plain.enforcing_success_rate.value == 0  # said, since left out it is on
    assert plain.HasField("enforcing_success_rate")


def test_grpc_looks_for_outliers_only_where_somebody_has_chosen_it():
    """To it, NOT_FOUND is a failure."""
    [of_grpc, of_envoy] = (
        message(translated(config={}).find(CLUSTER, "s", a)) for a in (GRPC, ENVOY)
    )
    assert not of_grpc.HasField("outlier_detection")
    assert of_envoy.outlier_detection.enforcing_failure_percentage.value == 100


@BOTH
def test_somebody_is_left(audience):
    every = {"minimumHosts": 1}
    found = outliers(audience, failurePercentageEjection=every, successRateEjection=every)
    assert found.failure_percentage_minimum_hosts.value == 2
    assert found.success_rate_minimum_hosts.value == 2
    for most, panic, expected in ((100, 30, 70), (20, 30, 20), (100, 0, 100)):
        found = outliers(audience, maxEjectionPercent=most, panicThreshold=panic)
        assert found.max_ejection_percent.value == expected


def test_envoy_needs_more():
    found = message(translated().find(CLUSTER, "s", ENVOY))
    assert found.HasField("connect_timeout")
    assert found.common_lb_config.HasField("healthy_panic_threshold")
    assert found.common_lb_config.healthy_panic_threshold.value == 0
    assert list(found.typed_extension_protocol_options)


# ---- routes

SPLIT = {
    "routes": [
        {
            "name": "canary",
            "match": {"headers": [{"name": "x-canary", "exact": "1"}]},
            "destinations": [{"version": "v2"}],
        },
        {"destinations": [{"version": "v1", "weight": 90}, {"version": "v2", "weight": 10}]},
    ]
}


def routes(translation, audience=GRPC):
    [host] = message(translation.find(ROUTE, "s", audience)).virtual_hosts
    return list(host.routes)


def weights(route):
    found = route.route
    if found.cluster:
        return {found.cluster: 1}
    return {each.name: each.weight.value for each in found.weighted_clusters.clusters}


@BOTH
def test_versions_are_clusters_of_their_own(audience):
    translation = translated(
        endpoint(1, version="v1"), endpoint(2, version="v2"), endpoint(3), config=SPLIT
    )
    assert set(translation.clusters) == {"s", "s|version=v1", "s|version=v2"}
    ips = [
        ip for _, ips in localities(translation, audience, "s|version=v2").values() for ip in ips
    ]
    assert ips == ["10.0.0.2"]
    canary, split, rest = routes(translation, audience)
    assert weights(canary) == {"s|version=v2": 1}
    assert weights(split) == {"s|version=v1": 90, "s|version=v2": 10}
    assert weights(rest) == {"s": 1}


def test_headers_are_matched_in_the_words_of_each_family():
    old, new = (routes(translated(config=SPLIT), a)[0].match.headers[0] for a in (GRPC, ENVOY))
    assert (old.name, old.exact_match) == ("x-canary", "1")
    assert (new.name, new.string_match.exact) == ("x-canary", "1")


@pytest.mark.parametrize(
    ("fallback", "there", "expected"),
    [
        ("OTHER_DESTINATIONS", ["v1"], {"s|version=v1": 1}),
        ("OTHER_DESTINATIONS", [], {"s|version=v1": 90, "s|version=v2": 10}),
        ("ANY_ENDPOINT", ["v2"], {"s|version=v2": 1}),
        ("ANY_ENDPOINT", [], {"s": 1}),
        ("NO_FALLBACK", ["v1"], {"s|version=v1": 90, "s|version=v2": 10}),
    ],
)
def test_a_share_without_endpoints(fallback, there, expected):
    [_, route] = SPLIT["routes"]
    config = {"routes": [{**route, "fallback": fallback}]}
    endpoints = [endpoint(n, version=version) for n, version in enumerate(there)]
    leaving = endpoint(9, version="v2", state=State.DRAINING)
    assert weights(routes(translated(*endpoints, leaving, config=config))[0]) == expected


def test_methods_have_routes_of_their_own_the_longest_first():
    retry = {
        "maxAttempts": 4,
        "initialBackoff": "0.1s",
        "maxBackoff": "1s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE", "NOT_FOUND"],
    }
    config = {
        "methodConfig": [
            {"name": [{"service": "a.B"}], "retryPolicy": retry},
            {"name": [{"service": "a.B", "method": "C"}], "timeout": "2s"},
            {"name": [{"service": "x.Y"}], "timeout": "1s"},
        ],
        "routes": [
            {"match": {"prefix": "/a."}, "destinations": [{"version": "v1"}]},
            {"match": {"path": "/a.B/D"}, "destinations": [{"version": "v2"}]},
        ],
    }
    found = [
        (each.match.path or each.match.prefix, each.route.retry_policy.retry_on)
        for each in routes(translated(config=config))
    ]
    assert found == [
        *[("/a.B/C", ""), ("/a.B/", "unavailable"), ("/a.", "")],
        ("/a.B/D", "unavailable"),
        *[("/a.B/C", ""), ("/a.B/", "unavailable"), ("/x.Y/", ""), ("", "")],
    ]
    retried = routes(translated(config=config))[1].route.retry_policy
    assert retried.num_retries.value == 3
    assert retried.retry_back_off.base_interval.nanos == 100_000_000


def test_grpc_never_gets_a_timeout():
    """Its core ends calls a second or two early."""
    config = {"methodConfig": [{"name": [{}], "timeout": "2s"}]}
    [route] = routes(translated(config=config))
    assert not route.route.HasField("timeout")
    assert not route.route.HasField("max_stream_duration")


def test_envoy_gets_the_timeout_that_is_configured_and_not_its_own():
    [route] = routes(translated(), ENVOY)
    assert route.route.HasField("timeout")
    assert route.route.timeout.seconds == 0
    config = {"methodConfig": [{"name": [{}], "timeout": "2s"}]}
    [route] = routes(translated(config=config), ENVOY)
    assert route.route.timeout.seconds == 0
    assert route.route.max_stream_duration.grpc_timeout_header_max.seconds == 2


def test_envoy_tries_again_what_reached_nobody_on_another_host():
    [route] = routes(translated(), ENVOY)
    assert route.route.retry_policy.retry_on == "connect-failure,refused-stream"
    assert route.route.retry_policy.retry_host_predicate


def test_what_envoy_takes_for_unavailable():
    """It has the code only of calls that it has given up: until then, they were cut off."""

    def retried(code):
        retry = {
            "maxAttempts": 2,
            "initialBackoff": "0.1s",
            "maxBackoff": "1s",
            "backoffMultiplier": 2,
            "retryableStatusCodes": [code],
        }
        config = {"methodConfig": [{"name": [{}], "retryPolicy": retry}]}
        return tuple(
            routes(translated(config=config), audience)[0].route.retry_policy
            for audience in (GRPC, ENVOY)
        )

    of_grpc, of_envoy = retried("UNAVAILABLE")
    assert of_envoy.retry_on == "unavailable,connect-failure,refused-stream,reset"
    assert of_grpc.retry_on == "unavailable"
    assert "reset" not in retried("INTERNAL")[1].retry_on.split(",")


def test_envoy_looks_long_for_an_endpoint_that_it_has_not_tried():
    """Those that are dead have no calls under way, and are chosen first for that."""
    [of_envoy], [of_grpc] = (routes(translated(), audience) for audience in (ENVOY, GRPC))
    assert of_envoy.route.retry_policy.host_selection_retry_max_attempts == 20
    assert not of_grpc.route.HasField("retry_policy")


def test_keys():
    config = {"loadBalancingConfig": [{"ring_hash": {"requestHashHeader": "x-user"}}]}
    [route] = routes(translated(config=config))
    assert [each.header.header_name for each in route.route.hash_policy] == ["x-user"]
    split = {"routes": [{**SPLIT["routes"][1], "requestHashHeader": "x-user"}]}
    both = (endpoint(1, version="v1"), endpoint(2, version="v2"))
    route = routes(translated(*both, config=split), ENVOY)[0].route
    assert route.weighted_clusters.use_hash_policy.value
    assert [each.header.header_name for each in route.hash_policy] == ["x-user"]


def test_what_routes_named_a_moment_ago_stays():
    old = Selector("v1")
    translation = translated(endpoint(1, version="v1"), lingering=[old])
    assert translation.find(CLUSTER, "s|version=v1", ENVOY) is not None
    assert translation.find(CLUSTER, "s|version=v9", ENVOY) is None


def test_by_authority():
    hosts = [translated().virtual_host(Family.ENVOY)]
    found = route_by_authority(hosts)
    assert [list(host.domains) for host in found.virtual_hosts] == [["s"], ["*"]]
    assert found.virtual_hosts[1].routes[0].direct_response.status == 503


# ---- listeners


def test_the_listener_of_a_name_has_a_router():
    found = message(translated().find(LISTENER, "s", GRPC))
    manager = http.HttpConnectionManager.FromString(found.api_listener.api_listener.value)
    assert manager.rds.route_config_name == "s"
    assert [each.name for each in manager.http_filters] == ["envoy.filters.http.router"]
    assert translated().find(LISTENER, "s", ENVOY) is None


def test_the_listener_of_a_port():
    tls = TlsFiles(cert="c", key="k", ca="ca")
    found = listener_of_port(Port(address="0.0.0.0:443", service="s", tls=tls))
    assert found.address.socket_address.port_value == 443
    [chain] = found.filter_chains
    manager = http.HttpConnectionManager.FromString(chain.filters[0].typed_config.value)
    assert manager.rds.route_config_name == "s"
    assert manager.HasField("stream_idle_timeout")  # 0: Envoy's own is five minutes
    context = DownstreamTlsContext.FromString(chain.transport_socket.typed_config.value)
    assert context.require_client_certificate.value
    [plain] = listener_of_port(Port(address="0.0.0.0:80")).filter_chains
    manager = http.HttpConnectionManager.FromString(plain.filters[0].typed_config.value)
    assert manager.rds.route_config_name == "/"


# ---- names and versions

TEXT = st.text(min_size=1, max_size=8)


@given(st.tuples(TEXT, TEXT), st.tuples(TEXT, TEXT), st.tuples(TEXT, TEXT))
def test_different_subsets_have_different_names(one, two, three):
    selectors = [Selector("", frozenset([one, two])), Selector("", frozenset([two, three]))]
    selectors += [
        Selector(one[0], frozenset([two])),
        Selector("", frozenset([("version", one[0])])),
    ]
    names = {cluster_name("s", selector): selector for selector in selectors}
    assert len(names) == len(set(selectors))
    assert {service_of(name) for name in names} == {"s"}


@pytest.mark.parametrize("name", ["hello_service", "a.b-c", "ä"])
def test_names_that_services_may_have(name):
    assert is_service_name(name)


@pytest.mark.parametrize("name", ["", "a/b", "a|b", "*", "a b", "\n", "x" * 500])
def test_names_that_no_service_has(name):
    assert not is_service_name(name)


def test_families():
    agents = {"envoy": ENVOY, "gRPC C-core linux Python": GRPC, "gRPC Go": GRPC, "": GRPC}
    assert {agent: Audience(Family.of(agent)) for agent in agents} == agents


@BOTH
def test_equal_content_has_an_equal_version_everywhere(audience):
    for type_url in (CLUSTER, ENDPOINT, ROUTE):
        one, two = (translated(endpoint(1), endpoint(2), config=SPLIT) for _ in range(2))
        assert (
            one.find(type_url, "s", audience).version == two.find(type_url, "s", audience).version
        )
    other = translated(endpoint(1), config=SPLIT)
    assert other.find(ENDPOINT, "s", audience).version != one.find(ENDPOINT, "s", audience).version
    assert other.find(CLUSTER, "s", audience).version == one.find(CLUSTER, "s", audience).version


def test_the_version_of_several_does_not_go_by_their_order():
    a, b = Resource("a", "1", b""), Resource("b", "2", b"")
    assert version_of([a, b]) == version_of([b, a]) != version_of([a]) == "1"


@pytest.mark.parametrize("count", [0, 1, 3, 2000])
def test_answers_that_are_put_together_are_what_they_seem(count):
    fleet = [endpoint(n, address=f"10.0.{n // 256}.{n % 256}:1") for n in range(count)]
    resource = translated(*fleet).find(ENDPOINT, "s", GRPC)
    answer = Answer(
        type_url=ENDPOINT,
        resources=(resource, resource),
        changed=("s",),
        removed=("gone",),
        version="v",
        nonce="7",
    )
    whole = discovery_pb2.DiscoveryResponse.FromString(StateOfTheWorld().write(answer))
    assert (whole.version_info, whole.nonce, whole.type_url) == ("v", "7", ENDPOINT)
    assert [each.SerializeToString() for each in whole.resources] == [resource.packed] * 2
    delta = discovery_pb2.DeltaDiscoveryResponse.FromString(Delta().write(answer))
    assert [(each.name, each.version) for each in delta.resources] == [("s", resource.version)] * 2
    assert list(delta.removed_resources) == ["gone"]
    found = ClusterLoadAssignment.FromString(delta.resources[0].resource.value)
    assert sum(len(each.lb_endpoints) for each in found.endpoints) == count
