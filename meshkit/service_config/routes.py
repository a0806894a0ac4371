"""What a service config says of routes: which calls go to which endpoints.

The shape is xDS's `RouteConfiguration` (gRFC A28), with endpoints described by version and labels
in the place of clusters; so the same rules hold in Envoy and in the xDS clients of gRPC.
"""

from __future__ import annotations

import enum
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from types import MappingProxyType
from typing import Annotated, Any, Final, final

from meshkit.balancer import EVERY, PickInfo, Selector
from meshkit.balancer.policies.hashing import Key, hash64, key_reader
from meshkit.fields import FieldError, Format, Integer, Place, check
from meshkit.service_config.matches import CallMetadata, RouteMatch

__all__ = [
    "POINTS",
    "Destination",
    "Fallback",
    "Route",
    "route_for",
]

_NO_LABELS: Final[Mapping[str, str]] = MappingProxyType({})
_BITS: Final = 64
POINTS: Final = 2**_BITS
_MAX_WEIGHT: Final = 2**32 - 1  # of all destinations together, as xDS has it


@final
@dataclass(frozen=True, slots=True)
class _Labels(Format):
    """Texts by text."""

    def __str__(self) -> str:
        return "an object of texts"

    def _take(self, value: Any) -> Mapping[str, Any] | None:
        return value if isinstance(value, Mapping) else None

    def read(self, value: Any, place: Place) -> Mapping[str, str]:
        """The mapping, read-only."""
        found = dict(super(_Labels, self).read(value, place))
        for key, item in found.items():
            if not isinstance(key, str) or not isinstance(item, str):
                raise place.at(str(key)).wrong("a text", item)
        return MappingProxyType(found)

    def write(self, value: Any) -> Any:
        """An object."""
        return dict(value) if isinstance(value, Mapping) else value


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """Endpoints that get a share of a route's calls; without version and metadata, all.

    Attributes:
        version: of the endpoints.
        metadata: what theirs has to have, each with exactly that value.
        weight: its share, as part of the sum of all weights of the route; 0 gets none.
        selector: which endpoints those are; not given, but made of the above.
    """

    version: str = ""
    metadata: Annotated[Mapping[str, str], _Labels()] = field(
        default_factory=lambda: _NO_LABELS, hash=False
    )
    weight: Annotated[int, Integer(0, _MAX_WEIGHT)] = 1
    selector: Selector = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check(self)
        selector = Selector(self.version, frozenset(self.metadata.items()))
        object.__setattr__(self, "selector", selector)


class Fallback(enum.StrEnum):
    """What becomes of a destination's share while no endpoint there can take calls.

    That is while all are failing, ejected or of weight 0, or there are none; not while the first
    connection is being made.

    `NO_FALLBACK` and `ANY_ENDPOINT` are words of Envoy's, where the first one is the default. Ours
    is another one, as a share is published before its endpoints come, and stays when they are gone.
    """

    OTHER_DESTINATIONS = "OTHER_DESTINATIONS"
    """The route's other destinations get it, by weight; a weight of 0 gets none."""
    ANY_ENDPOINT = "ANY_ENDPOINT"
    """The same, and when they cannot take it either, all endpoints of the service."""
    NO_FALLBACK = "NO_FALLBACK"
    """Its calls fail, or wait if they are to wait for ready."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Where some calls of a service go.

    Attributes:
        name: for people, in errors and status; may be left out.
        match: which calls; without it, all.
        destinations: who gets them, by weight.
        fallback: what becomes of a share while no endpoint of its destination can take calls.
        key: the header whose value decides which destination a call goes to, so that calls with
            one value stay with one version; in code, a function of the call as well. Calls without
            one are drawn by lot, as are all where no header is given.
    """

    name: str = ""
    match: RouteMatch = field(default_factory=RouteMatch)
    destinations: tuple[Destination, ...]
    fallback: Fallback = Fallback.OTHER_DESTINATIONS
    key: Key = ""
    _cuts: tuple[int, ...] = field(init=False, repr=False, compare=False)
    _key_of: Callable[[PickInfo], bytes] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check(self)
        if not self.destinations:
            raise FieldError("destinations", "must be an array of one or more")
        object.__setattr__(self, "_cuts", _cuts(self.destinations))
        object.__setattr__(self, "_key_of", key_reader(self.key))
        if not 0 < self._cuts[-1] <= _MAX_WEIGHT:
            raise FieldError(
                "destinations", f"weights must sum up to 1 or more and at most {_MAX_WEIGHT}"
            )
        places: dict[Selector, int] = {}
        for i, destination in enumerate(self.destinations):
            if (first := places.setdefault(destination.selector, i)) != i:
                problem = f"describes the same endpoints as destinations[{first}]"
                raise FieldError(f"destinations[{i}]", problem)

    def draw(self, call: PickInfo, bits: Callable[[int], int]) -> int:
        """The point of a call, by its key or by lot; it decides on the destination.

        Args:
            call: what is known of it.
            bits: makes a random number of so many bits.
        """
        # Another hash than that of policies by key, or a destination had a part of their ring only.
        key = self._key_of(call) if self.key else b""
        return hash64(b"route " + key) if key else bits(_BITS)

    def choose(self, point: int, is_usable: Callable[[Selector], bool]) -> Selector:
        """Whose endpoints get a call.

        What one destination cannot take is spread over the others; calls of the others stay where
        they are. So does most of a destination when weights change: a share grows at its ends.

        Args:
            point: below `POINTS`, evenly distributed: of all calls, or of the values of a key.
            is_usable: whether endpoints can take calls now.
        """
        drawn, rest = _at(self.destinations, self._cuts, point)
        if self.fallback is Fallback.NO_FALLBACK or is_usable(drawn.selector):
            return drawn.selector
        if others := [to for to in self.destinations if to.weight and is_usable(to.selector)]:
            return _at(others, _cuts(others), rest)[0].selector
        if self.fallback is Fallback.ANY_ENDPOINT and is_usable(EVERY):
            return EVERY
        return drawn.selector


def _cuts(destinations: Iterable[Destination]) -> tuple[int, ...]:
    """Where the share of each ends."""
    return tuple(accumulate(destination.weight for destination in destinations))


def _at(
    destinations: Sequence[Destination], cuts: Sequence[int], point: int
) -> tuple[Destination, int]:
    """Who has the share with `point` in it, and a point that is as evenly distributed."""
    place, rest = divmod(point * cuts[-1], POINTS)
    return destinations[bisect_right(cuts, place)], rest


def route_for(routes: Iterable[Route], path: str, metadata: CallMetadata) -> Route | None:
    """The first of `routes` that matches a call; None if none does."""
    return next((route for route in routes if route.match.takes(path, metadata)), None)
