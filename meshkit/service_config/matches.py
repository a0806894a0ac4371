"""Which calls a route is for: by method and by header."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, TypeAlias, final

from meshkit.errors import ConfigError
from meshkit.fields import Format, check

__all__ = ["CallMetadata", "HeaderMatch", "RouteMatch"]

CallMetadata: TypeAlias = Sequence[tuple[str, str | bytes]]

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
        own = self.name
        values = [_text(value) for name, value in metadata if name == own]
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


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")
