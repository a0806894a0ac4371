"""Which of several service configs holds, and that it is told."""

from __future__ import annotations

from typing import Any

from meshkit.balancer import PowerOfTwo, RoundRobin
from meshkit.service_config import HedgingPolicy, Merged, MethodConfig, ServiceConfig, merge

RETRY = {
    "maxAttempts": 3,
    "initialBackoff": "0.1s",
    "maxBackoff": "1s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}


def merged(code: dict[str, Any] | None, registry: dict[str, Any] | None) -> Merged:
    given = {"code": code, "registry": registry}
    return merge({k: None if g is None else ServiceConfig.parse(g) for k, g in given.items()})


def methods(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"methodConfig": list(entries)}


def test_the_stronger_value_holds_field_by_field() -> None:
    found = merged(
        {"loadBalancingConfig": [{"round_robin": {}}]},
        {
            "loadBalancingConfig": [{"p2c": {}}],
            "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1},
        },
    )
    assert found.config.load_balancing_config == RoundRobin()
    assert found.config.retry_throttling is not None
    assert found.sources == {"loadBalancingConfig": "code", "retryThrottling": "registry"}


def test_without_one_the_other_holds_and_without_any_nothing() -> None:
    given = {"loadBalancingConfig": [{"p2c": {}}], **methods({"name": [{}], "timeout": "1s"})}
    for found in (merged(given, None), merged(None, given)):
        assert found.config.load_balancing_config == PowerOfTwo()
        assert found.config.for_method("/a/b").timeout == 1
    assert merged(None, None) == Merged(ServiceConfig(), {})


def test_the_fields_of_a_method_are_merged() -> None:
    found = merged(
        methods({"name": [{"service": "s", "method": "m"}], "timeout": "1s"}),
        methods({"name": [{"service": "s"}], "timeout": "9s", "waitForReady": True}),
    )
    here, beside = found.config.for_method("/s/m"), found.config.for_method("/s/n")
    assert (here.timeout, here.wait_for_ready) == (1, True)
    assert (beside.timeout, beside.wait_for_ready) == (9, True)
    assert found.sources == {
        "methodConfig[/s/*].timeout": "registry",
        "methodConfig[/s/*].waitForReady": "registry",
        "methodConfig[/s/m].timeout": "code",
        "methodConfig[/s/m].waitForReady": "registry",
    }


def test_a_default_in_code_beats_the_entry_of_a_method_in_the_registry() -> None:
    found = merged(
        methods({"name": [{}], "timeout": "1s"}),
        methods(
            {"name": [{"service": "s", "method": "m"}], "timeout": "9s", "waitForReady": False}
        ),
    )
    assert found.config.for_method("/s/m").timeout == 1
    assert found.config.for_method("/s/m").wait_for_ready is False
    assert found.config.for_method("/s/n").wait_for_ready is None
    assert found.sources["methodConfig[*].timeout"] == "code"


def test_within_one_config_an_entry_holds_alone() -> None:
    found = merged(
        methods(
            {"name": [{}], "timeout": "1s"}, {"name": [{"service": "s"}], "waitForReady": True}
        ),
        None,
    )
    assert found.config.for_method("/s/m").timeout is None


def test_retries_of_the_weaker_do_not_join_the_hedging_of_the_stronger() -> None:
    hedging, retries = {"hedgingPolicy": {"maxAttempts": 2}}, {"retryPolicy": RETRY}
    found = merged(
        methods({"name": [{}], **hedging}), methods({"name": [{}], **retries, "timeout": "1s"})
    )
    entry = found.config.for_method("/a/b")
    assert entry.hedging_policy == HedgingPolicy(max_attempts=2)
    assert entry.retry_policy is None
    assert entry.timeout == 1
    other = merged(methods({"name": [{}], **retries}), methods({"name": [{}], **hedging}))
    assert other.config.for_method("/a/b").hedging_policy is None


def test_entries_without_names_are_of_no_effect() -> None:
    found = merged(methods({"timeout": "1s"}), methods({"timeout": "2s"}))
    assert found.config.for_method("/a/b") == MethodConfig()
    assert found.sources == {}
