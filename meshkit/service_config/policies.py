"""The balancing policy of a service config: the first of a list that is known (gRFC A24)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, final

from meshkit.balancer import POLICIES, OutlierDetection, Policy, Subsetting
from meshkit.errors import ConfigError
from meshkit.fields import Format, Place, camel_case, from_json, to_json

__all__ = ["PolicyList", "modernized", "unwrapped"]

_DEPRECATED: Final = "loadBalancingPolicy"
_LIST: Final = "loadBalancingConfig"
_CHILD: Final = "childPolicy"
_AROUND: Final[Mapping[str, tuple[str, Any]]] = MappingProxyType(
    {
        "outlier_detection_experimental": ("outlier_detection", OutlierDetection),
        "random_subsetting_experimental": ("subsetting", Subsetting),
    }
)
"""What meshkit has beside the policy, and gRPC as a policy with a child."""

_NONE: Final = "UNSPECIFIED"  # the deprecated field's word for "not given"


@final
@dataclass(frozen=True, slots=True)
class PolicyList(Format):
    """An array of objects with one field each: the name of a policy, and its parameters.

    So a config may begin with a policy that old clients do not know. What follows the first known
    one is not looked at.
    """

    known: Mapping[str, type[Policy]]

    def __str__(self) -> str:
        return "an array of policies"

    def __hash__(self) -> int:
        return hash(tuple(self.known))

    def _take(self, value: Any) -> list[Any] | tuple[Any, ...] | None:
        return value if isinstance(value, list | tuple) else None

    def read(self, value: Any, place: Place) -> Policy:
        """The first policy that is known."""
        name, parameters, at = _first(super(PolicyList, self).read(value, place), self.known, place)
        kind: Any = self.known[name]
        policy: Policy = from_json(kind, parameters, at)
        return policy

    def write(self, value: Any) -> Any:
        """An array of one."""
        names = [name for name, kind in self.known.items() if kind is type(value)]
        if names:
            return [{names[0]: to_json(value)}]
        raise ConfigError(f"the policy {value!r} has no name in JSON; use one of ours")


def unwrapped(
    document: Mapping[str, Any], place: Place
) -> tuple[dict[str, Any], Mapping[str, Any]]:
    """What stands in policies around the policy, as gRPC has it, and the document without that.

    Raises:
        FieldError: it cannot be used, or is given in two ways.
    """
    found: dict[str, Any] = {}
    policies, at = document.get(_LIST), place.at(_LIST)
    while isinstance(policies, list | tuple):
        name, parameters, here = _first(policies, (*POLICIES, *_AROUND), at)
        if name not in _AROUND:
            break
        field, kind = _AROUND[name]
        if not isinstance(parameters, Mapping):
            raise here.wrong("an object", parameters)
        if field in found or document.get(camel_case(field)) is not None:
            raise here.error(f"{camel_case(field)} is given twice")
        own = {key: item for key, item in parameters.items() if key != _CHILD}
        found[field] = from_json(kind, own, here)
        policies, at = parameters.get(_CHILD), here.at(_CHILD)
    if found:
        found["load_balancing_config"] = PolicyList(POLICIES).read(policies, at)
    done = {camel_case(field) for field in found}
    return found, {key: item for key, item in document.items() if key not in done}


def _first(policies: Sequence[Any], known: Collection[str], place: Place) -> tuple[str, Any, Place]:
    """Name, parameters and place of the first policy that is known."""
    for i, item in enumerate(policies):
        if not isinstance(item, Mapping) or len(item) != 1:
            raise place.at(i).wrong("an object with the name of one policy", item)
        [(name, parameters)] = item.items()
        if name in known:
            return name, parameters, place.at(i).at(name)
    raise place.error(f"no known policy; known: {', '.join(known)}")


def modernized(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """A service config without the deprecated `loadBalancingPolicy`.

    Raises:
        FieldError: that is of effect, and names no policy.
    """
    name = document.get(_DEPRECATED)
    others = {key: item for key, item in document.items() if key != _DEPRECATED}
    if name is None or name == _NONE or document.get(_LIST) is not None:
        return others
    if not isinstance(name, str) or name.lower() not in POLICIES:
        raise Place(_DEPRECATED).wrong(f"one of {', '.join(POLICIES)}", name)
    return {**others, _LIST: [{name.lower(): {}}]}
