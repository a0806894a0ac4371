"""The list of policies: the first known one holds, and its parameters come by its fields."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Annotated, Any

import pytest

from meshkit.balancer import (
    POLICIES,
    Clock,
    OutlierDetection,
    Picker,
    PowerOfTwo,
    RoundRobin,
    Subsetting,
    SuccessRateEjection,
    WeightedRoundRobin,
)
from meshkit.errors import ConfigError
from meshkit.fields import FieldError, Integer, Place, Seconds, check
from meshkit.service_config import DEFAULTS, ServiceConfig
from meshkit.service_config.policies import PolicyList


@dataclass(frozen=True, slots=True)
class Aging:
    """A policy with parameters of each kind."""

    choices: Annotated[int, Integer(2, cap=10)] = 2
    decay_time: Seconds = 10.0
    labels: tuple[str, ...] = ()
    eager: bool = False

    def __post_init__(self) -> None:
        check(self)
        if self.eager and not self.labels:
            raise ConfigError("eager needs labels")

    def picker(self, rng: random.Random, now: Clock) -> Picker:
        raise NotImplementedError


OURS = PolicyList({"aging": Aging, "aging_experimental": Aging, "round_robin": RoundRobin})
HERE = Place("loadBalancingConfig")


def parse(*policies: Any) -> object:
    return ServiceConfig.parse({"loadBalancingConfig": list(policies)}).load_balancing_config


def test_the_first_known_policy_holds() -> None:
    assert parse({"new": {"x": 1}}, {"round_robin": {}}, {"p2c": {}}) == RoundRobin()
    assert parse({"p2c": {}}, {"round_robin": {}}) == PowerOfTwo()
    assert ServiceConfig.parse("{}").load_balancing_config is None


@pytest.mark.parametrize(
    ("policies", "said"),
    [
        ([], "loadBalancingConfig: no known policy; known: "),
        ([{"new": {}}], "loadBalancingConfig: no known policy; known: "),
        (
            [{"new": {}}, {"p2c": {}, "round_robin": {}}],
            "loadBalancingConfig[1]: must be an object with the name of one policy, got {",
        ),
        ([{}], "loadBalancingConfig[0]: must be an object with the name of one policy, got {}"),
        (
            ["p2c"],
            'loadBalancingConfig[0]: must be an object with the name of one policy, got "p2c"',
        ),
        ([{"p2c": None}], "loadBalancingConfig[0].p2c: must be an object, got null"),
        ([{"p2c": {"x": 1}}], "loadBalancingConfig[0].p2c.x: unknown field; known: "),
    ],
)
def test_what_is_no_list_of_policies(policies: list[Any], said: str) -> None:
    with pytest.raises(FieldError) as caught:
        parse(*policies)
    assert str(caught.value).startswith(said)


def test_parameters_are_the_fields_of_the_policy() -> None:
    given = {"choices": 50, "decayTime": "0.5s", "labels": ["a", "b"], "eager": True}
    policy = OURS.read([{"aging": given}], HERE)
    assert policy == Aging(10, 0.5, ("a", "b"), True)
    assert OURS.write(policy) == [{"aging": {**given, "choices": 10}}]
    assert OURS.write(Aging()) == [{"aging": {}}]
    assert OURS.read([{"aging_experimental": {}}], HERE) == Aging()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"choices": 1}, "choices: must be an integer of 2 or more, got 1"),
        ({"decayTime": 0.5}, 'decayTime: must be a duration, such as "1.5s", got 0.5'),
        ({"labels": ["a", 1]}, "labels[1]: must be a text, got 1"),
        ({"labels": "a"}, 'labels: must be an array, got "a"'),
        ({"eager": "yes"}, 'eager: must be true or false, got "yes"'),
    ],
)
def test_a_bad_parameter_is_named_by_its_path(given: dict[str, Any], said: str) -> None:
    with pytest.raises(FieldError) as caught:
        OURS.read([{"other": {}}, {"aging": given}], HERE)
    assert str(caught.value) == f"loadBalancingConfig[1].aging.{said}"


def test_a_rule_between_parameters_names_the_policy() -> None:
    with pytest.raises(FieldError, match=r"^loadBalancingConfig\[0\].aging: eager needs labels$"):
        OURS.read([{"aging": {"eager": True}}], HERE)


def test_a_policy_of_the_user_has_no_name_in_json() -> None:
    with pytest.raises(ConfigError, match="has no name in JSON"):
        ServiceConfig(load_balancing_config=Aging()).to_json()


def test_the_deprecated_name_of_a_policy() -> None:
    def policy(**fields: Any) -> object:
        return ServiceConfig.parse(fields).load_balancing_config

    assert policy(loadBalancingPolicy="ROUND_ROBIN") == RoundRobin()
    assert policy(loadBalancingPolicy="p2c") == PowerOfTwo()
    assert policy(loadBalancingPolicy="UNSPECIFIED") is None
    assert policy(loadBalancingPolicy="?", loadBalancingConfig=[{"p2c": {}}]) == PowerOfTwo()
    for wrong in ("grpclb", 1, ["p2c"]):
        with pytest.raises(FieldError, match=r"^loadBalancingPolicy: must be one of "):
            policy(loadBalancingPolicy=wrong)


DETECTION = "loadBalancingConfig[0].outlier_detection_experimental"


def wrapped(child: Any = "leave out", **parameters: Any) -> ServiceConfig:
    if child != "leave out":
        parameters["childPolicy"] = child
    return ServiceConfig.parse(
        {"loadBalancingConfig": [{"outlier_detection_experimental": parameters}]}
    )


def test_outlier_detection_as_a_policy_with_a_child() -> None:
    config = wrapped(
        [{"new": {}}, {"round_robin": {}}],
        interval="2s",
        successRateEjection={"minimumHosts": 3},
    )
    assert config == ServiceConfig(
        load_balancing_config=RoundRobin(),
        outlier_detection=OutlierDetection(
            interval=2.0, success_rate_ejection=SuccessRateEjection(minimum_hosts=3)
        ),
    )
    assert ServiceConfig.parse(config.to_json()) == config


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, ".childPolicy: must be an array of policies, got null"),
        ({"child": []}, ".childPolicy: no known policy; known: "),
        (
            {"child": [{"p2c": {}}], "interval": 1},
            '.interval: must be a duration above 0s, such as "1.5s", got 1',
        ),
        (
            {"child": [{"outlier_detection_experimental": {"childPolicy": [{"p2c": {}}]}}]},
            ".childPolicy[0].outlier_detection_experimental: outlierDetection is given twice",
        ),
    ],
)
def test_what_is_wrong_with_it_is_named_where_it_stands(given: dict[str, Any], said: str) -> None:
    with pytest.raises(FieldError) as caught:
        wrapped(**given)
    assert str(caught.value).startswith(DETECTION + said)


def test_outlier_detection_is_given_in_one_way() -> None:
    around = {"outlier_detection_experimental": {"childPolicy": [{"p2c": {}}]}}
    with pytest.raises(FieldError, match="outlierDetection is given twice"):
        ServiceConfig.parse({"outlierDetection": {}, "loadBalancingConfig": [around]})
    with pytest.raises(FieldError, match="must be an object, got 1"):
        ServiceConfig.parse({"loadBalancingConfig": [{"outlier_detection_experimental": 1}]})


def test_policies_with_a_child_stand_in_any_order() -> None:
    inner = [{"round_robin": {}}]
    subset = {"random_subsetting_experimental": {"subsetSize": 3, "childPolicy": inner}}
    wanted = ServiceConfig(
        load_balancing_config=RoundRobin(),
        outlier_detection=OutlierDetection(),
        subsetting=Subsetting(subset_size=3),
    )
    assert wrapped([subset]) == wanted
    around = {"outlier_detection_experimental": {"childPolicy": inner}}
    outer = {"random_subsetting_experimental": {"subsetSize": 3, "childPolicy": [around]}}
    assert ServiceConfig.parse({"loadBalancingConfig": [outer]}) == wanted


@pytest.mark.parametrize("name", POLICIES)
def test_each_policy_with_its_defaults_is_written_back(name: str) -> None:
    document = {"loadBalancingConfig": [{name: {}}]}
    config = ServiceConfig.parse(document)
    assert config.load_balancing_config == POLICIES[name]()
    assert ServiceConfig.parse(config.to_json()) == config


def test_what_holds_by_default_is_written_back() -> None:
    assert ServiceConfig.parse(DEFAULTS.to_json()) == DEFAULTS


def test_fields_of_grpc_that_are_of_no_effect_here_are_no_mistakes() -> None:
    parameters = {"enableOobLoadReport": True, "blackoutPeriod": "1s", "weightUpdatePeriod": "1s"}
    config = ServiceConfig.parse(
        {
            "connectionScaling": {"maxConnectionsPerSubchannel": 2},
            "loadBalancingConfig": [{"weighted_round_robin": parameters}],
        }
    )
    assert config == ServiceConfig(load_balancing_config=WeightedRoundRobin(blackout_period=1.0))
