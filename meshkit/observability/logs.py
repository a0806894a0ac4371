"""Events as log lines: through the application's structlog, or stdlib logging.

A library must be quiet until the application asks. Unconfigured structlog prints to stdout, so it
is used only where the application has configured it; otherwise lines go to the stdlib logger
`meshkit`, as `event key=value ...` with the fields as `extra`, and nowhere if nobody listens.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

import structlog

from meshkit.events import Event

__all__ = ["log_event"]

_LOGGER: Final = logging.getLogger("meshkit")
_LOGGER.addHandler(logging.NullHandler())  # else warnings reach stderr unasked

_LEVELS: Final = logging.getLevelNamesMapping()


def log_event(event: Event) -> None:
    """Write one line for `event`."""
    details = event.details()
    if structlog.is_configured():
        structlog.get_logger("meshkit").log(_LEVELS[event.level.upper()], event.name, **details)
        return
    level = _LEVELS[event.level.upper()]
    if _LOGGER.isEnabledFor(level):
        fields = {key: value for key, value in details.items() if key != "exc_info"}
        _LOGGER.log(
            level,
            "%s",
            _line(event.name, fields),
            exc_info=details.get("exc_info"),
            extra={"meshkit": {"event": event.name, **fields}},
        )


def _line(name: str, fields: Mapping[str, Any]) -> str:
    return " ".join((name, *(f"{key}={_shown(value)}" for key, value in fields.items())))


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_shown, value))}]"
    text = str(value)
    plain = text.isprintable() and " " not in text  # or a value could begin a line of its own
    return text if plain and text else repr(text)
