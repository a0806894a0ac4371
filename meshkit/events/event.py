"""What an event is, and how it gets to the hooks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Protocol, TypeAlias

from meshkit.endpoint import Endpoint

__all__ = ["Emit", "Event", "Hook", "emit_to", "endpoint_details"]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that changed. `name` is `noun.verb_past`, `level` one of logging's words."""

    name: ClassVar[str]
    level: ClassVar[str] = "info"

    def details(self) -> Mapping[str, Any]:
        """The fields for a log line."""
        return {field.name: _plain(getattr(self, field.name)) for field in fields(self)}


def _plain(value: object) -> object:
    """A mapping as a dict: a read-only one is none to JSON renderers."""
    return dict(value) if isinstance(value, Mapping) else value


class Hook(Protocol):
    """Receives every event; synchronous and quick. What it raises is logged and dropped."""

    def __call__(self, event: Event, /) -> None:
        """Take note of `event`."""
        ...


Emit: TypeAlias = Callable[[Event], None]


def emit_to(hooks: Iterable[Hook]) -> Emit:
    """One function that gives an event to all `hooks`, each shielded from the others' errors."""
    receivers = tuple(hooks)

    def emit(event: Event) -> None:
        for hook in receivers:
            try:
                hook(event)
            except Exception:  # a user's hook must not end a loop of ours
                logging.getLogger("meshkit").exception("a hook failed on %s", event.name)

    return emit


def endpoint_details(endpoint: Endpoint) -> dict[str, Any]:
    """What a log line tells of an endpoint."""
    return {"service": endpoint.service, "endpoint": endpoint.id, "address": endpoint.address}
