"""Routes: what is read, what is refused and how, and which call matches which."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshkit.balancer import Selector
from meshkit.endpoint import Endpoint
from meshkit.errors import ConfigError
from meshkit.fields import FieldError
from meshkit.service_config import (
    Destination,
    Fallback,
    HeaderMatch,
    Route,
    RouteMatch,
    ServiceConfig,
    merge,
    route_for,
)
from meshkit.service_config.routes import POINTS

ANYWHERE = [{}]
HELLO = "/helloworld.Greeter/SayHello"


def parse(*routes: Any) -> tuple[Route, ...]:
    config = ServiceConfig.parse(json.dumps({"routes": routes}))
    assert config.routes is not None
    return config.routes


def problem(*routes: Any) -> str:
    with pytest.raises(FieldError) as caught:
        parse(*routes)
    return str(caught.value)


def header(**fields: Any) -> HeaderMatch:
    [route] = parse({"match": {"headers": [fields]}, "destinations": ANYWHERE})
    return route.match.headers[0]


# ---- what is read


def test_a_route_in_full() -> None:
    document = {
        "name": "testers",
        "match": {
            "prefix": "/helloworld.Greeter/",
            "headers": [{"name": "x-user", "exact": "ada"}, {"name": "x-off", "present": False}],
        },
        "destinations": [
            {"version": "v2", "metadata": {"track": "beta"}, "weight": 3},
            {"version": "v1"},
        ],
        "fallback": "NO_FALLBACK",
        "requestHashHeader": "x-user",
    }
    [route] = parse(document)
    assert route == Route(
        name="testers",
        match=RouteMatch(
            prefix="/helloworld.Greeter/",
            headers=(
                HeaderMatch(name="x-user", exact="ada"),
                HeaderMatch(name="x-off", present=False),
            ),
        ),
        destinations=(
            Destination(version="v2", metadata={"track": "beta"}, weight=3),
            Destination(version="v1"),
        ),
        fallback=Fallback.NO_FALLBACK,
        key="x-user",
    )
    assert ServiceConfig(routes=(route,)).to_json() == {"routes": [document]}


def test_what_is_left_out() -> None:
    [route] = parse({"destinations": ANYWHERE})
    assert route.match == RouteMatch()
    assert route.fallback is Fallback.OTHER_DESTINATIONS
    assert route.destinations[0] == Destination(version="", metadata={}, weight=1)
    assert str(route.destinations[0].selector) == "any"


@pytest.mark.parametrize(
    ("route", "words"),
    [
        ({}, "routes[0].destinations: is required"),
        ({"destinations": []}, "routes[0].destinations: must be an array of one or more"),
        ({"destinations": [{"weight": 0}]}, "routes[0].destinations: weights must sum up to 1"),
        (
            {"destinations": [{"version": "a", "weight": 2**32 - 1}, {"version": "b"}]},
            "routes[0].destinations: weights must sum up to 1 or more and at most 4294967295",
        ),
        (
            {"destinations": [{"weight": -1}]},
            "routes[0].destinations[0].weight: must be an integer",
        ),
        (
            {"destinations": [{"version": "v1"}, {"version": "v1", "weight": 3}]},
            "routes[0].destinations[1]: describes the same endpoints as destinations[0]",
        ),
        (
            {"destinations": [{"metadata": {"track": 1}}]},
            "routes[0].destinations[0].metadata.track: must be a text, got 1",
        ),
        (
            {"destinations": [{"metadata": ["track"]}]},
            "routes[0].destinations[0].metadata: must be an object of texts",
        ),
        ({"destinations": [{"subset": "v1"}]}, "routes[0].destinations[0].subset: unknown field"),
        ({"destinations": ANYWHERE, "fallback": "ANY"}, "routes[0].fallback: must be one of OTHER"),
        (
            {"destinations": ANYWHERE, "requestHashHeader": "X-User"},
            "routes[0].requestHashHeader: must be the name of a header",
        ),
    ],
)
def test_routes_that_are_refused(route: Any, words: str) -> None:
    assert problem(route).startswith(words)


@pytest.mark.parametrize(
    ("match", "words"),
    [
        ({"path": "SayHello"}, ".path: must be a method, such as /helloworld.Greeter/SayHello"),
        ({"path": "/helloworld.Greeter/"}, ".path: must be a method"),
        ({"path": "/a/b/c"}, ".path: must be a method"),
        ({"prefix": "helloworld"}, ".prefix: must be the beginning of a method"),
        ({"prefix": ""}, ".prefix: must be the beginning of a method"),
        ({"prefix": "//"}, ".prefix: must be the beginning of a method"),
        ({"prefix": "/a/b/"}, ".prefix: must be the beginning of a method"),
        ({"path": "/a/b", "prefix": "/a/"}, ": path and prefix cannot be given both"),
        ({"headers": [{"exact": "1"}]}, ".headers[0].name: is required"),
    ],
)
def test_matches_that_are_refused(match: Any, words: str) -> None:
    assert problem({"match": match, "destinations": ANYWHERE}).startswith(f"routes[0].match{words}")


@pytest.mark.parametrize(
    "name", ["X-User", "", "trace-bin", "grpc-timeout", "content-type", "te", ":path", "x user"]
)
def test_headers_that_not_all_clients_can_match_are_refused(name: str) -> None:
    route = {"match": {"headers": [{"name": name, "exact": "1"}]}, "destinations": ANYWHERE}
    assert problem(route).startswith(
        "routes[0].match.headers[0].name: must be the name of a header in small letters"
    )


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, ": give exactly one of exact, prefix, suffix, present"),
        ({"exact": "a", "prefix": "b"}, ": give exactly one of exact, prefix, suffix, present"),
        ({"exact": "a", "present": False}, ": give exactly one of"),
        ({"prefix": ""}, ".prefix: must be a text that is not empty"),
        ({"suffix": ""}, ".suffix: must be a text that is not empty"),
        ({"regex": ".*"}, ".regex: unknown field"),
    ],
)
def test_rules_for_a_header_that_are_refused(fields: Any, words: str) -> None:
    route = {"match": {"headers": [{"name": "x", **fields}]}, "destinations": ANYWHERE}
    assert problem(route).startswith(f"routes[0].match.headers[0]{words}")


def test_code_is_held_to_the_same_rules() -> None:
    with pytest.raises(ConfigError, match="must be the name of a header"):
        HeaderMatch(name="X-User", exact="ada")
    with pytest.raises(ConfigError, match="must be an array of one or more"):
        Route(destinations=())


def test_of_two_configs_the_stronger_has_all_routes() -> None:
    """Routes are in order, so those of two cannot be mixed; an empty list turns them off."""
    ours, theirs = ({"routes": [{"name": name, "destinations": ANYWHERE}]} for name in "ab")
    for code, expected in ((ours, "a"), ({}, "b")):
        found = merge({"code": ServiceConfig.parse(code), "registry": ServiceConfig.parse(theirs)})
        assert [route.name for route in found.config.routes or ()] == [expected]
        assert found.sources["routes"] == ("code" if code else "registry")
    off = {"code": ServiceConfig.parse({"routes": []}), "registry": ServiceConfig.parse(theirs)}
    assert merge(off).config.routes == ()


# ---- which call matches


@pytest.mark.parametrize(
    ("match", "path", "takes"),
    [
        ({}, HELLO, True),
        ({"path": HELLO}, HELLO, True),
        ({"path": HELLO}, f"{HELLO}Again", False),
        ({"path": HELLO}, HELLO.lower(), False),
        ({"prefix": "/"}, HELLO, True),
        ({"prefix": "/helloworld."}, HELLO, True),
        ({"prefix": "/helloworld.Greeter/"}, HELLO, True),
        ({"prefix": "/helloworld.Greeter/"}, "/helloworld.Greeters/SayHello", False),
        ({"prefix": HELLO}, f"{HELLO}Again", True),
    ],
)
def test_methods(match: dict[str, str], path: str, *, takes: bool) -> None:
    assert RouteMatch(**match).takes(path, ()) is takes


@pytest.mark.parametrize(
    ("rule", "values", "takes"),
    [
        ({"exact": "ada"}, ["ada"], True),
        ({"exact": "ada"}, ["Ada"], False),
        ({"exact": "ada"}, [b"ada"], True),
        ({"exact": "ada"}, [], False),
        ({"exact": ""}, [""], True),
        ({"exact": ""}, [], False),
        ({"exact": "ada"}, ["ada", "bob"], False),
        ({"exact": "ada,bob"}, ["ada", "bob"], True),
        ({"exact": "ada", "invert": True}, ["bob"], True),
        ({"exact": "ada", "invert": True}, ["ada"], False),
        ({"exact": "ada", "invert": True}, [], False),
        ({"prefix": "a"}, ["ada"], True),
        ({"prefix": "a"}, ["bob", "ada"], False),
        ({"prefix": "a", "invert": True}, ["bob"], True),
        ({"prefix": "a", "invert": True}, [], False),
        ({"suffix": "a"}, ["ada"], True),
        ({"suffix": "a"}, ["ada", "bob"], False),
        ({"present": True}, [""], True),
        ({"present": True}, [], False),
        ({"present": False}, ["ada"], False),
        ({"present": False}, [], True),
        ({"present": True, "invert": True}, [], True),
        ({"present": True, "invert": True}, ["ada"], False),
    ],
)
def test_headers(rule: dict[str, Any], values: list[str | bytes], *, takes: bool) -> None:
    metadata = [("x-other", "ada"), *(("x-user", value) for value in values)]
    assert header(name="x-user", **rule).takes(metadata) is takes


def test_the_first_route_that_matches_holds() -> None:
    routes = parse(
        {"name": "one", "match": {"path": HELLO}, "destinations": ANYWHERE},
        {"name": "two", "match": {"prefix": "/helloworld.Greeter/"}, "destinations": ANYWHERE},
    )
    found = [route_for(routes, path, ()) for path in (HELLO, "/helloworld.Greeter/Wave", "/a/b")]
    assert [route and route.name for route in found] == ["one", "two", None]


names = st.sampled_from(["x-a", "x-b"])
texts = st.text("ab", max_size=3)
rules = st.one_of(
    st.builds(HeaderMatch, name=names, exact=texts, invert=st.booleans()),
    st.builds(HeaderMatch, name=names, prefix=texts.filter(bool), invert=st.booleans()),
    st.builds(HeaderMatch, name=names, suffix=texts.filter(bool), invert=st.booleans()),
    st.builds(HeaderMatch, name=names, present=st.booleans(), invert=st.booleans()),
)
paths = st.sampled_from(["/s/m", "/s/mm", "/ss/m"])
matches = st.one_of(
    st.builds(RouteMatch, path=paths, headers=st.lists(rules, max_size=2).map(tuple)),
    st.builds(
        RouteMatch,
        prefix=st.sampled_from(["/", "/s", "/s/", "/s/m"]),
        headers=st.lists(rules, max_size=2).map(tuple),
    ),
)
destinations = st.lists(
    st.builds(
        Destination,
        version=st.sampled_from(["", "v1", "v2"]),
        metadata=st.dictionaries(texts, texts, max_size=2),
        weight=st.integers(1, 9),
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda destination: destination.selector,
).map(tuple)
routes = st.lists(
    st.builds(
        Route,
        name=texts,
        match=matches,
        destinations=destinations,
        fallback=st.sampled_from(Fallback),
        key=names | st.just(""),
    ),
    max_size=4,
).map(tuple)
metadata = st.lists(st.tuples(names, texts), max_size=4)


def plainly(rule: HeaderMatch, pairs: list[tuple[str, str]]) -> bool:
    """The rule for one header as C-core puts it."""
    value = ",".join(v for k, v in pairs if k == rule.name)
    if all(name != rule.name for name, _ in pairs):
        return rule.present is not None and rule.present == rule.invert
    fits = {
        "exact": value == rule.exact,
        "prefix": rule.prefix is not None and value[: len(rule.prefix)] == rule.prefix,
        "suffix": rule.suffix is not None and value[-len(rule.suffix) :] == rule.suffix,
        "present": rule.present,
    }
    [kind] = [kind for kind in fits if getattr(rule, kind) is not None]
    return bool(fits[kind]) != rule.invert


@given(routes, paths, metadata)
def test_the_route_of_a_call_is_the_first_all_of_which_matches(
    routes: tuple[Route, ...], path: str, metadata: list[tuple[str, str]]
) -> None:
    expected = None
    for route in reversed(routes):
        named = (
            path == route.match.path
            if route.match.path
            else path.startswith(route.match.prefix or "")
        )
        if named and all(plainly(rule, metadata) for rule in route.match.headers):
            expected = route
    assert route_for(routes, path, metadata) is expected


@given(routes)
def test_what_is_read_is_written_back(routes: tuple[Route, ...]) -> None:
    config = ServiceConfig(routes=routes)
    again = ServiceConfig.parse(json.dumps(config.to_json()))
    assert again == config
    assert hash(again) == hash(config)


# ---- which destination


def chosen(route: Route, *usable: str, points: int = 1_000) -> dict[str, int]:
    """How many of so many calls go where, while only these versions can take calls."""

    def is_usable(selector: Selector) -> bool:
        return selector.version in usable or (not selector.version and bool(usable))

    places = ((2 * number + 1) * POINTS // (2 * points) for number in range(points))
    return dict(Counter(route.choose(place, is_usable).version or "any" for place in places))


def shared(fallback: Fallback = Fallback.OTHER_DESTINATIONS, **weights: int) -> Route:
    destinations = tuple(Destination(version=v, weight=w) for v, w in weights.items())
    return Route(destinations=destinations, fallback=fallback)


def test_shares_are_exact() -> None:
    assert chosen(shared(v1=9, v2=1), "v1", "v2") == {"v1": 900, "v2": 100}
    assert chosen(shared(a=1, b=0, c=3), "a", "b", "c") == {"a": 250, "c": 750}
    assert chosen(shared(v1=0, v2=7), "v1", "v2") == {"v2": 1_000}


def test_the_share_of_one_that_cannot_take_it_goes_to_the_others_by_weight() -> None:
    route = shared(a=50, b=40, c=10)
    assert chosen(route, "a", "b", "c") == {"a": 500, "b": 400, "c": 100}
    assert chosen(route, "b", "c") == {"b": 800, "c": 200}
    assert chosen(route, "a", "c", points=60_000) == {"a": 50_000, "c": 10_000}
    assert chosen(route, "c") == {"c": 1_000}


def test_when_none_can_each_keeps_its_share() -> None:
    """So calls wait for their own."""
    assert chosen(shared(v1=9, v2=1)) == {"v1": 900, "v2": 100}


def test_a_weight_of_0_takes_nothing_from_others() -> None:
    assert chosen(shared(v1=1, v2=0), "v2") == {"v1": 1_000}


def test_without_fallback_each_keeps_its_share() -> None:
    assert chosen(shared(Fallback.NO_FALLBACK, v1=9, v2=1), "v1") == {"v1": 900, "v2": 100}


def test_any_endpoint_comes_after_the_other_destinations() -> None:
    route = shared(Fallback.ANY_ENDPOINT, v1=9, v2=1)
    assert chosen(route, "v1") == {"v1": 1_000}
    assert chosen(route, "v3") == {"any": 1_000}
    assert chosen(route) == {"v1": 900, "v2": 100}


@given(
    st.lists(st.integers(0, 2**20), min_size=1, max_size=5).filter(any),
    st.integers(0, POINTS - 1) | st.just(POINTS - 1),
    st.sets(st.integers(0, 4)),
    st.sampled_from(Fallback),
)
def test_a_call_goes_where_calls_can_be_taken_and_others_stay(
    weights: list[int], point: int, down: set[int], fallback: Fallback
) -> None:
    route = shared(fallback, **{f"v{i}": weight for i, weight in enumerate(weights)})
    lost = {f"v{i}" for i in down}
    home = route.choose(point, lambda _: True)
    found = route.choose(point, lambda selector: selector.version not in lost)
    assert route.destinations[int(home.version[1:])].weight > 0
    if home.version not in lost or fallback is Fallback.NO_FALLBACK:
        assert found == home
    elif any(weight and i not in down for i, weight in enumerate(weights)):
        assert found.version not in lost
        assert route.destinations[int(found.version[1:])].weight > 0
    else:
        assert found == (Selector() if fallback is Fallback.ANY_ENDPOINT else home)


@given(st.integers(0, 100), st.integers(0, 100), st.integers(0, POINTS - 1))
def test_who_has_come_to_a_growing_share_stays_in_it(first: int, then: int, point: int) -> None:
    few, many = sorted((first, then))
    before, after = (
        shared(v1=100 - share, v2=share).choose(point, lambda _: True).version
        for share in (few, many)
    )
    assert (before, after) in {("v1", "v1"), ("v1", "v2"), ("v2", "v2")}


# ---- which endpoints


@pytest.mark.parametrize(
    ("destination", "takes"),
    [
        (Destination(), True),
        (Destination(version="v2"), True),
        (Destination(version="v1"), False),
        (Destination(metadata={"track": "beta"}), True),
        (Destination(metadata={"track": "beta", "tier": "1"}), True),
        (Destination(version="v1", metadata={"track": "beta"}), False),
        (Destination(metadata={"track": "bet"}), False),
        (Destination(metadata={"track": "beta", "other": ""}), False),
    ],
)
def test_endpoints(destination: Destination, *, takes: bool) -> None:
    endpoint = Endpoint(
        service="s", id="i", address="a:1", version="v2", metadata={"track": "beta", "tier": "1"}
    )
    assert destination.selector.takes(endpoint) is takes


def test_a_selector_says_what_it_takes() -> None:
    assert str(Selector("v2", frozenset({("b", "2"), ("a", "1")}))) == "version v2, a=1, b=2"
