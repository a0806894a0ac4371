"""What goes to and fro on a stream, in either variant of the protocol."""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeAlias, final

from meshkit.xds.resources import Resource

__all__ = ["WILDCARD", "Absent", "Answer", "Change", "Found", "Refusal", "View"]

WILDCARD: Final = "*"


@final
class Absent(enum.Enum):
    """Why there is no resource."""

    UNKNOWN = "unknown"
    """It is not known yet; nothing must be said of it, or clients would take it for deleted."""
    NONE = "none"


Found: TypeAlias = Resource | Absent


class View(Protocol):
    """What there is, for one client."""

    def find(self, type_url: str, name: str, *, fresh: bool) -> Found:
        """One resource; `fresh` clients have none, and may be told of less than is known later."""
        ...

    def listed(self, type_url: str, *, fresh: bool) -> Collection[str] | None:
        """The names of all; None: they are not known yet."""
        ...


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a request says, in either variant.

    Attributes:
        names: wanted from now on, in the place of all before; None: see the next two.
        more: wanted besides.
        fewer: not wanted any more.
        versions: what the client has by name, from an earlier stream.
        has_some: whether it has anything, from an earlier stream.
        nonce: of the answer that this answers; empty: of none.
        error: why the client refuses that answer; empty: it does not.
    """

    names: tuple[str, ...] | None = None
    more: tuple[str, ...] = ()
    fewer: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    has_some: bool = False
    nonce: str = ""
    error: str = ""


@final
@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that a client did not take (NACK): the versions in it, and what the client says."""

    versions: Mapping[str, str]
    reason: str


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What is to be sent.

    Attributes:
        type_url: of the resources.
        resources: those that are sent.
        changed: the names of those that the client did not have.
        removed: names of what the client has, or asked for, and does not exist.
        version: of all that the client wants and exists.
        nonce: by which it will be answered.
    """

    type_url: str
    resources: tuple[Resource, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]
    version: str
    nonce: str
