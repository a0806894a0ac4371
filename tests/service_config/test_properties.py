"""Whatever JSON is given: a config that writes itself back, or an error with a path."""

from __future__ import annotations

import json
import math
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from meshkit.fields import FieldError, Place
from meshkit.fields.codes import CODES
from meshkit.service_config import ServiceConfig, merge
from meshkit.service_config.policies import PolicyList
from tests.service_config.test_policies import Aging

durations = st.floats(0, 1e9).map(lambda seconds: f"{seconds:.9f}s")
some_time = st.floats(1e-9, 1e9).map(lambda seconds: f"{seconds:.9f}s")
codes = st.lists(
    st.sampled_from(CODES) | st.sampled_from(CODES).map(str.lower) | st.integers(0, 16)
)
words = st.text(st.characters(codec="utf-8", exclude_characters="/"), min_size=1, max_size=8)
names = st.fixed_dictionaries({"service": words}, optional={"method": words})

retry_policies = st.fixed_dictionaries(
    {
        "maxAttempts": st.integers(2, 99),
        "initialBackoff": some_time,
        "maxBackoff": some_time,
        "backoffMultiplier": st.floats(1e-3, 1e3) | st.integers(1, 9),
        "retryableStatusCodes": codes.filter(bool),
    }
)
hedging_policies = st.fixed_dictionaries(
    {"maxAttempts": st.integers(2, 99)},
    optional={
        "hedgingDelay": durations,
        "hedgingPercentile": st.floats(1, 99.9),
        "nonFatalStatusCodes": codes,
    },
)
entries = st.fixed_dictionaries(
    {},
    optional={
        "timeout": durations,
        "waitForReady": st.booleans(),
        "maxRequestMessageBytes": st.integers(0, 2**32 - 1),
        "maxResponseMessageBytes": st.integers(0, 2**32 - 1),
    },
)
attempts = (
    st.fixed_dictionaries({"retryPolicy": retry_policies})
    | st.fixed_dictionaries({"hedgingPolicy": hedging_policies})
    | st.just({})
)


@st.composite
def method_configs(draw: st.DrawFn) -> list[dict[str, Any]]:
    named = draw(st.lists(names, unique_by=lambda n: (n["service"], n.get("method")), max_size=3))
    return [{"name": [name], **draw(entries), **draw(attempts)} for name in named]


configs = st.fixed_dictionaries(
    {"methodConfig": method_configs()},
    optional={
        "loadBalancingConfig": st.sampled_from([[{"p2c": {}}], [{"x": 1}, {"round_robin": {}}]]),
        "retryThrottling": st.fixed_dictionaries(
            {"maxTokens": st.integers(1, 1000), "tokenRatio": st.floats(0.001, 1000)}
        ),
        "healthCheckConfig": st.fixed_dictionaries({}, optional={"serviceName": words}),
    },
)
KEYS = (
    *("loadBalancingConfig", "loadBalancingPolicy", "p2c", "methodConfig", "name", "service"),
    *("method", "timeout", "waitForReady", "retryPolicy", "hedgingPolicy", "maxAttempts"),
    *("hedgingDelay", "nonFatalStatusCodes", "retryThrottling", "maxTokens", "tokenRatio"),
)
any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=20,
)


def check(text: str | bytes, unknown: list[str] | None = None) -> None:
    try:
        ServiceConfig.parse(text, unknown=unknown)
    except FieldError as error:
        if not error.path or str(error) != f"{error.path}: {error.problem}":
            raise AssertionError(f"no path in {error!r}") from error


@given(configs)
def test_what_is_read_is_written_back(document: dict[str, Any]) -> None:
    config = ServiceConfig.parse(json.dumps(document))
    assert ServiceConfig.parse(json.dumps(config.to_json())) == config
    assert hash(ServiceConfig.parse(config.to_json())) == hash(config)


@given(st.builds(Aging, st.integers(2), st.floats(0, 1e9).map(lambda s: round(s, 9))))
def test_so_are_the_parameters_of_a_policy(policy: Aging) -> None:
    policies = PolicyList({"aging": Aging})
    assert policies.read(policies.write(policy), Place()) == policy


@given(any_json)
@example({"retryThrottling": {"maxTokens": 10**400, "tokenRatio": 10**400}})
@example({"retryThrottling": {"maxTokens": 1, "tokenRatio": math.inf}})
@example({"methodConfig": [{"name": [{"service": "/"}]}]})
def test_any_json_is_a_config_or_an_error_with_a_path(document: Any) -> None:
    for unknown in (None, []):
        check(json.dumps(document), unknown)


@given(st.text() | st.binary())
def test_so_is_any_text(text: str | bytes) -> None:
    check(text)


@settings(max_examples=40)
@given(configs, configs, configs, words, words)
def test_a_merged_config_holds_for_each_method_what_its_parts_do(
    first: Any, second: Any, third: Any, service: str, method: str
) -> None:
    parsed = [ServiceConfig.parse(document) for document in (first, second, third)]
    merged = merge(dict(zip("abc", parsed, strict=True)))
    paths = [name.path for c in parsed for entry in c.method_config for name in entry.name]
    for path in (*paths, *(f"{path}x" for path in paths), f"/{service}/{method}"):
        if not path.endswith("/"):
            said = [config.for_method(path).timeout for config in parsed]
            strongest = next((timeout for timeout in said if timeout is not None), None)
            assert merged.config.for_method(path).timeout == strongest
    assert merge({"x": merged.config}).config == merged.config
