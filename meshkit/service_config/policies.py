"""The balancing policy of a service config: the first of a list that is known (gRFC A24)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, final

from meshkit.balancer import POLICIES, Policy
from meshkit.errors import ConfigError
from meshkit.fields import Format, Place, from_json, to_json

__all__ = ["PolicyList", "modernized"]

_DEPRECATED: Final = "loadBalancingPolicy"
_LIST: Final = "loadBalancingConfig"
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
        for i, item in enumerate(super(PolicyList, self).read(value, place)):
            at = place.at(i)
            if not isinstance(item, Mapping) or len(item) != 1:
                raise at.wrong("an object with the name of one policy", item)
            [(name, parameters)] = item.items()
            if name in self.known:
                kind: Any = self.known[name]
                policy: Policy = from_json(kind, parameters, at.at(name))
                return policy
        raise place.error(f"no known policy; known: {', '.join(self.known)}")

    def write(self, value: Any) -> Any:
        """An array of one."""
        names = [name for name, kind in self.known.items() if kind is type(value)]
        if names:
            return [{names[0]: to_json(value)}]
        raise ConfigError(f"the policy {value!r} has no name in JSON; use one of ours")


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
