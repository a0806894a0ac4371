"""What a service config says of methods: which entry holds, and the rules of gRFC A6."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from meshkit.errors import ConfigError
from meshkit.fields import FieldError
from meshkit.service_config import (
    HedgingPolicy,
    MethodConfig,
    MethodName,
    RetryPolicy,
    RetryThrottling,
    ServiceConfig,
)

RETRY = {
    "maxAttempts": 4,
    "initialBackoff": "0.1s",
    "maxBackoff": "1s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}


def parse(*methods: dict[str, Any], **fields: Any) -> ServiceConfig:
    return ServiceConfig.parse(json.dumps({"methodConfig": methods, **fields}))


def problem(*methods: dict[str, Any], **fields: Any) -> str:
    with pytest.raises(FieldError) as caught:
        parse(*methods, **fields)
    return str(caught.value)


def retry_problem(**changes: Any) -> str:
    policy = {key: item for key, item in {**RETRY, **changes}.items() if item != "leave out"}
    return problem({"name": [{}], "retryPolicy": policy}).removeprefix(
        "methodConfig[0].retryPolicy."
    )


def test_the_most_specific_entry_holds_and_holds_alone() -> None:
    config = parse(
        {"name": [{}], "timeout": "1s", "waitForReady": True},
        {"name": [{"service": "shop.Cart"}], "timeout": "2s"},
        {"name": [{"service": "shop.Cart", "method": "Add"}], "timeout": "3s"},
    )
    assert config.for_method("/shop.Cart/Add").timeout == 3
    assert config.for_method("/shop.Cart/Drop").timeout == 2
    assert config.for_method("/shop.Cart/Drop").wait_for_ready is None
    assert config.for_method("/shop.Carts/Add").timeout == 1
    assert config.for_method("/other.Service/Add").wait_for_ready is True


def test_nothing_holds_for_a_method_that_nobody_names() -> None:
    config = parse(
        {"name": [{"service": "a.B", "method": "C"}], "timeout": "3s"}, {"timeout": "1s"}
    )
    assert config.for_method("/a.B/D") == MethodConfig()
    assert ServiceConfig().for_method("/a.B/D") == MethodConfig()


def test_empty_null_and_missing_names_are_the_same() -> None:
    for method in ({}, {"method": ""}, {"method": None}):
        assert parse({"name": [{"service": "s", **method}]}).for_method("/s/m").name == (
            MethodName(service="s"),
        )


def test_a_name_is_given_once_only() -> None:
    one = {"name": [{"service": "a.B"}, {"service": "a.B", "method": "C"}]}
    assert problem(one, {"name": [{"service": "x"}, {"service": "a.B", "method": "C"}]}) == (
        "methodConfig[1].name[1]: /a.B/C is in methodConfig[0].name[1] already"
    )
    assert problem({"name": [{}, {"service": ""}]}) == (
        "methodConfig[0].name[1]: * is in methodConfig[0].name[0] already"
    )


def test_a_method_needs_a_service() -> None:
    assert problem({"name": [{"method": "C"}]}) == (
        "methodConfig[0].name[0].service: is required where there is a method"
    )


def test_a_retry_policy_in_seconds_and_names() -> None:
    config = parse({"name": [{}], "retryPolicy": RETRY})
    assert config.for_method("/a/b").retry_policy == RetryPolicy(
        max_attempts=4,
        initial_backoff=0.1,
        max_backoff=1.0,
        backoff_multiplier=2.0,
        retryable_status_codes=frozenset({"UNAVAILABLE"}),
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"maxAttempts": 1}, "maxAttempts: must be an integer of 2 or more, got 1"),
        ({"maxAttempts": 2.5}, "maxAttempts: must be an integer of 2 or more, got 2.5"),
        ({"maxAttempts": True}, "maxAttempts: must be an integer of 2 or more, got true"),
        ({"maxAttempts": "leave out"}, "maxAttempts: is required"),
        ({"initialBackoff": None}, "initialBackoff: is required"),
        ({"maxBackoff": "leave out"}, "maxBackoff: is required"),
        ({"backoffMultiplier": "leave out"}, "backoffMultiplier: is required"),
        ({"backoffMultiplier": 0}, "backoffMultiplier: must be a number above 0, got 0"),
        ({"retryableStatusCodes": "leave out"}, "retryableStatusCodes: is required"),
        (
            {"retryableStatusCodes": []},
            "retryableStatusCodes: must be a non-empty array of status codes, got []",
        ),
        (
            {"retryableStatusCodes": [14, "GONE"]},
            'retryableStatusCodes[1]: must be the name or number of a gRPC status code, got "GONE"',
        ),
        (
            {"initialBackoff": "0s"},
            'initialBackoff: must be a duration above 0s, such as "1.5s", got "0s"',
        ),
        (
            {"maxBackoff": 1},
            'maxBackoff: must be a duration above 0s, such as "1.5s", got 1',
        ),
    ],
)
def test_the_rules_of_a_retry_policy(changes: dict[str, Any], said: str) -> None:
    assert retry_problem(**changes) == said


def test_more_than_five_attempts_count_as_five() -> None:
    config = parse(
        {"name": [{}], "retryPolicy": {**RETRY, "maxAttempts": 50}},
        {"name": [{"service": "s"}], "hedgingPolicy": {"maxAttempts": 6}},
    )
    retry, hedging = (
        config.for_method("/a/b").retry_policy,
        config.for_method("/s/b").hedging_policy,
    )
    assert (retry and retry.max_attempts) == 5
    assert hedging == HedgingPolicy(max_attempts=5)


def test_status_codes_by_name_in_any_case_or_number() -> None:
    codes = [14, "unavailable", "Aborted", 0]
    config = parse(
        {"name": [{}], "hedgingPolicy": {"maxAttempts": 2, "nonFatalStatusCodes": codes}}
    )
    assert config.for_method("/a/b").hedging_policy == HedgingPolicy(
        max_attempts=2, non_fatal_status_codes=frozenset({"UNAVAILABLE", "ABORTED", "OK"})
    )


def test_retries_and_hedging_exclude_each_other() -> None:
    assert problem({"retryPolicy": RETRY, "hedgingPolicy": {"maxAttempts": 2}}) == (
        "methodConfig[0]: retryPolicy and hedgingPolicy cannot be given both"
    )


@pytest.mark.parametrize(
    ("given", "seconds"),
    [("1s", 1.0), ("0s", 0.0), ("0.000000001s", 1e-9), ("1.5s", 1.5), ("315576000000s", 315576e6)],
)
def test_durations(given: str, seconds: float) -> None:
    assert parse({"name": [{}], "timeout": given}).for_method("/a/b").timeout == seconds


@pytest.mark.parametrize(
    "given",
    [
        "1",
        "s",
        ".5s",
        "1.s",
        "-1s",
        "+1s",
        "1e3s",
        "1.0000000001s",
        "315576000001s",
        " 1s",
        "1S",
        1,
    ],
)
def test_what_is_no_duration(given: object) -> None:
    assert problem({"name": [{}], "timeout": given}).startswith(
        "methodConfig[0].timeout: must be a duration"
    )


def test_sizes_of_messages_may_be_zero() -> None:
    found = parse({"name": [{}], "maxRequestMessageBytes": 0}).for_method("/a/b")
    assert found.max_request_message_bytes == 0
    assert found.max_response_message_bytes is None
    assert "maxResponseMessageBytes" in problem({"maxResponseMessageBytes": 2**32})


@pytest.mark.parametrize(
    ("tokens", "ratio", "said"),
    [
        (0, 0.1, "maxTokens: must be an integer from 1 to 1000, got 0"),
        (1001, 0.1, "maxTokens: must be an integer from 1 to 1000, got 1001"),
        (10, 0, "tokenRatio: must be a number above 0, got 0"),
        (10, 0.0009, "tokenRatio: must be a number above 0, got 0.0009"),
        (None, 0.1, "maxTokens: is required"),
        (10, None, "tokenRatio: is required"),
    ],
)
def test_the_rules_of_throttling(tokens: object, ratio: object, said: str) -> None:
    throttling = {"maxTokens": tokens, "tokenRatio": ratio}
    assert problem(retryThrottling=throttling) == f"retryThrottling.{said}"


@pytest.mark.parametrize(("given", "counts"), [(0.5466, 0.546), (0.57, 0.57), (1.0019, 1.001)])
def test_a_token_ratio_has_three_decimals(given: float, counts: float) -> None:
    config = parse(retryThrottling={"maxTokens": 10, "tokenRatio": given})
    assert config.retry_throttling == RetryThrottling(max_tokens=10, token_ratio=counts)


def test_values_made_in_code_keep_the_same_rules() -> None:
    with pytest.raises(ConfigError, match="max_attempts: must be an integer of 2 or more, got 1"):
        HedgingPolicy(max_attempts=1)
    assert HedgingPolicy(max_attempts=9).max_attempts == 5


def test_unknown_fields_are_errors_or_listed() -> None:
    text = {"methodConfig": [{"name": [{}], "timout": "1s"}], "new": {"a b": 1}}
    with pytest.raises(FieldError, match=r"methodConfig\[0\].timout: unknown field; known: name,"):
        ServiceConfig.parse(text)
    unknown: list[str] = []
    assert ServiceConfig.parse(text, unknown=unknown).for_method("/a/b").timeout is None
    assert unknown == ["methodConfig[0].timout", "new"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", r"\$: no JSON: "),
        (b"\xff{", r"\$: no JSON: "),
        ("[" * 100_000, r"\$: JSON nested too deep"),
        ("[]", r"\$: must be an object, got \[\]"),
        ('{"a": 1, "a": 2}', "has the field 'a' twice"),
        ('{"a": NaN}', "NaN is no number in JSON"),
    ],
)
def test_what_is_no_json_object(text: str | bytes, said: str) -> None:
    with pytest.raises(FieldError, match=said):
        ServiceConfig.parse(text)


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    with pytest.raises(ConfigError, match=r"config.json: No such file"):
        ServiceConfig.parse(path)
    path.write_text('{"methodConfig": [{"name": [{}], "timeout": "1s"}]}', encoding="utf-8")
    assert ServiceConfig.parse(path).for_method("/a/b").timeout == 1
