"""What a service config says of routes: which calls go to which endpoints.

The shape is xDS's `RouteConfiguration` (gRFC A28), with endpoints described by version and labels
in the place of clusters; so the same rules hold in Envoy and in the xDS clients of gRPC.
"""

from __future__ import annotations

import enum
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from types import MappingProxyType
from typing import Annotated, Any, Final, TypeAlias, final

from meshkit.balancer import EVERY, Selector
from meshkit.balancer.policies.hashing import Key
from meshkit.errors import ConfigError
from meshkit.fields import FieldError, Format, Integer, Place, check

__all__ = [
    "POINTS",
    "Destination",
    "Fallback",
    "HeaderMatch",
    "Route",
    "RouteMatch",
    "route_for",
]

CallMetadata: TypeAlias = Sequence[tuple[str, str | bytes]]

_NO_LABELS: Final[Mapping[str, str]] = MappingProxyType({})
POINTS: Final = 2**64
_MAX_WEIGHT: Final = 2**32 - 1  # of all destinations together, as xDS has it
_NAME: Final = re.compile(r"[0-9a-z_.-]+")
_OWN: Final = frozenset({"content-type", "te", "user-agent"})  # gRPC sends them, programs cannot


@final
@dataclass(frozen=True, slots=True)
class _Pattern(Format):
    """A text that matches all of a regular expression, which `words` describe."""

    regex: str
    words: str

    def __str__(self) -> str:
        return self.words

    def _take(self, value: Any) -> str | None:
        return value if isinstance(value, str) and re.fullmatch(self.regex, value) else None


@final
@dataclass(frozen=True, slots=True)
class _HeaderName(Format):
    """The name of a header that programs send and all kinds of clients can match."""

    def __str__(self) -> str:
        return "the name of a header in small letters (not a binary one, nor one of gRPC's own)"

    def _take(self, value: Any) -> str | None:
        if not isinstance(value, str) or not _NAME.fullmatch(value) or value in _OWN:
            return None
        return None if value.startswith("grpc-") or value.endswith("-bin") else value


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


_PATH: Final = _Pattern("/[^/]+/[^/]+", "a method, such as /helloworld.Greeter/SayHello")
# C-core passes over a route whose prefix could begin no method, without a word.
_PREFIX: Final = _Pattern(
    "/([^/]+(/[^/]*)?)?", "the beginning of a method, such as /helloworld.Greeter/"
)
_SOME_TEXT: Final = _Pattern("(?s:.+)", "a text that is not empty")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderMatch:
    """What a header of a call has to be; exactly one of `exact`, `prefix`, `suffix`, `present`.

    Several values of one header are joined with a comma. A call without the header matches nothing
    but `present`, whatever `invert` says: as in Envoy and in gRPC. There are no regular
    expressions: Python's may take for ever, and would stop the event loop of every client.

    Attributes:
        name: of the header.
        exact: the whole value.
        prefix: what the value begins with.
        suffix: what the value ends with.
        present: whether the header is there at all.
        invert: match where it would not match otherwise.
    """

    name: Annotated[str, _HeaderName()]
    exact: str | None = None
    prefix: Annotated[str, _SOME_TEXT] | None = None
    suffix: Annotated[str, _SOME_TEXT] | None = None
    present: bool | None = None
    invert: bool = False

    def __post_init__(self) -> None:
        check(self)
        if (self.exact, self.prefix, self.suffix, self.present).count(None) != 3:
            raise ConfigError("give exactly one of exact, prefix, suffix, present")

    def takes(self, metadata: CallMetadata) -> bool:
        """Whether a call with `metadata` matches."""
        values = [_text(value) for name, value in metadata if name == self.name]
        if self.present is not None:
            return (bool(values) == self.present) != self.invert
        return bool(values) and self._fits(",".join(values)) != self.invert

    def _fits(self, value: str) -> bool:
        if self.exact is not None:
            return value == self.exact
        return value.startswith(self.prefix or "") and value.endswith(self.suffix or "")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RouteMatch:
    """Which calls a route is for: all that is given has to match; nothing given matches all.

    Attributes:
        path: the whole name of a method: `/helloworld.Greeter/SayHello`.
        prefix: what the names of the methods begin with: `/helloworld.Greeter/`.
        headers: what has to match of the metadata that the program sends.
    """

    path: Annotated[str, _PATH] | None = None
    prefix: Annotated[str, _PREFIX] | None = None
    headers: tuple[HeaderMatch, ...] = ()

    def __post_init__(self) -> None:
        check(self)
        if self.path is not None and self.prefix is not None:
            raise ConfigError("path and prefix cannot be given both")

    def takes(self, path: str, metadata: CallMetadata) -> bool:
        """Whether a call of the method at `path` with `metadata` matches."""
        if self.path is not None and path != self.path:
            return False
        if self.prefix is not None and not path.startswith(self.prefix):
            return False
        return all(header.takes(metadata) for header in self.headers)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """Endpoints that get a share of a route's calls; without version and metadata, all.

    Attributes:
        version: of the endpoints.
        metadata: what theirs has to have, each with exactly that value.
        weight: its share, as part of the sum of all weights of the route; 0 gets none.
    """

    version: str = ""
    metadata: Annotated[Mapping[str, str], _Labels()] = field(
        default_factory=lambda: _NO_LABELS, hash=False
    )
    weight: Annotated[int, Integer(0, _MAX_WEIGHT)] = 1

    def __post_init__(self) -> None:
        check(self)

    @property
    def selector(self) -> Selector:
        """Which endpoints those are."""
        return Selector(self.version, frozenset(self.metadata.items()))


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
    match: RouteMatch = RouteMatch()
    destinations: tuple[Destination, ...]
    fallback: Fallback = Fallback.OTHER_DESTINATIONS
    key: Key = ""
    _cuts: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check(self)
        if not self.destinations:
            raise FieldError("destinations", "must be an array of one or more")
        object.__setattr__(self, "_cuts", _cuts(self.destinations))
        if not 0 < self._cuts[-1] <= _MAX_WEIGHT:
            raise FieldError(
                "destinations", f"weights must sum up to 1 or more and at most {_MAX_WEIGHT}"
            )
        places: dict[Selector, int] = {}
        for i, destination in enumerate(self.destinations):
            if (first := places.setdefault(destination.selector, i)) != i:
                problem = f"describes the same endpoints as destinations[{first}]"
                raise FieldError(f"destinations[{i}]", problem)

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


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")
