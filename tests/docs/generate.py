"""The tables of the reference that come out of the code: `python -m tests.docs.generate`.

A page has `<!-- generated: events -->` where the table `events` begins and `<!-- end -->` where it
ends; running this writes it anew, and `test_reference` fails while one is out of date.
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import meshkit
from meshkit import events
from meshkit.balancer import POLICIES, Subsetting
from meshkit.cli.main import parser as command_line
from meshkit.fields import formats_of, json_name
from tests.docs.markdown import ROOT, pages

__all__ = ["TABLES", "regenerated"]

_MARKED = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip().replace("|", r"\|")


def _summary(thing: object) -> str:
    doc = inspect.getdoc(thing) or ""
    return _cell(doc.split("\n\n")[0])


def _section(thing: object, title: str) -> dict[str, str]:
    """The entries of a section of a docstring, by name."""
    doc = inspect.getdoc(thing) or ""
    found = re.search(rf"^{title}:\n((?:    .*\n?|\n)*)", doc, re.MULTILINE)
    entries = re.findall(r"^    (\w+): (.*(?:\n     .*)*)", found[1] if found else "", re.MULTILINE)
    return {name: _cell(text) for name, text in entries}


def event_types() -> list[type[events.Event]]:
    """All events, in order of name."""
    found = (getattr(events, name) for name in events.__all__)
    return sorted(
        (
            e
            for e in found
            if isinstance(e, type) and issubclass(e, events.Event) and e is not events.Event
        ),
        key=lambda event: event.name,
    )


def _sample(event: type[events.Event]) -> events.Event:
    """An event to ask for the names of its details."""
    endpoint = meshkit.Endpoint(service="s", id="i", address="a:1")
    known: dict[str, Any] = {"endpoint": endpoint, "delta": meshkit.Delta(), "error": ValueError()}
    fields = [field.name for field in dataclasses.fields(event)]
    return event(**{name: known.get(name, 0) for name in fields})


def _events() -> str:
    return _table(
        ("event", "level", "fields of the log line", "class", "when"),
        (
            (
                f"`{event.name}`",
                event.level,
                ", ".join(f"`{name}`" for name in _sample(event).details()),
                f"`{event.__name__}`",
                _summary(event),
            )
            for event in event_types()
        ),
    )


def _event_names() -> str:
    return _table(
        ("level", "events"),
        (
            (level, ", ".join(f"`{e.name}`" for e in event_types() if e.level == level))
            for level in ("error", "warning", "info", "debug")
        ),
    )


def _public() -> str:
    rows = []
    for name in meshkit.__all__:
        thing = getattr(meshkit, name)
        kind = "class" if isinstance(thing, type) else "function"
        if isinstance(thing, type) and issubclass(thing, Exception):
            kind = "error"
        rows.append((f"`{name}`", kind, _summary(thing)))
    return _table(("name", "what", "in one line"), rows)


def _members(cls: type, only: tuple[str, ...] = ()) -> str:
    """The public methods and properties of a class."""
    rows = []
    own = [base for base in reversed(cls.__mro__) if base.__module__.startswith("meshkit.")]
    for name, thing in (member for base in own for member in vars(base).items()):
        if name.startswith("_") or (only and name not in only):
            continue
        function = thing.fget if isinstance(thing, property) else thing
        if not callable(function):
            continue
        how = "property" if isinstance(thing, property) else "method"
        wrapped = inspect.unwrap(function)
        if inspect.isasyncgenfunction(wrapped) and wrapped is not function:
            how = "`async with`"
        elif inspect.iscoroutinefunction(wrapped):
            how = "`await`"
        rows.append((f"`{name}`", how, _summary(function)))
    return _table(("name", "how", "in one line"), rows)


def _keywords(function: Callable[..., object], text: dict[str, str]) -> str:
    """The arguments of a function, with their defaults."""
    rows = []
    for name, parameter in inspect.signature(function).parameters.items():
        if name == "self" or name not in text:
            continue
        default = parameter.default
        shown = "required" if default is parameter.empty else f"`{default!r}`"
        if name == "environ":
            shown = "`os.environ`"
        rows.append((f"`{name}`", shown, text[name]))
    return _table(("name", "default", "what"), rows)


def _fields(cls: type) -> str:
    """The fields of a dataclass, with their defaults."""
    default, text = cls(), _section(cls, "Attributes")
    return _table(
        ("name", "default", "what"),
        (
            (f"`{field.name}`", f"`{getattr(default, field.name)!r}`", text[field.name])
            for field in dataclasses.fields(cls)
        ),
    )


def _json_default(record: type, field: dataclasses.Field[Any]) -> str:
    """The default of a field as JSON has it."""
    if field.default is not dataclasses.MISSING:
        default = field.default
    elif field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    else:
        return "required"
    if default is None or (not isinstance(default, bool | int | float) and not default):
        return ""
    return f"`{json.dumps(formats_of(record)[field.name].write(default))}`"


def _json_fields(record: type) -> str:
    """The fields of a dataclass as JSON has them."""
    text = _section(record, "Attributes")
    formats = formats_of(record)
    return _table(
        ("field", "must be", "default", "what"),
        (
            (
                f"`{json_name(field.name, formats[field.name])}`",
                str(formats[field.name]),
                _json_default(record, field),
                text[field.name],
            )
            for field in dataclasses.fields(record)
            if field.name in formats
        ),
    )


def _policies() -> str:
    """The balancing policies with all their names and parameters."""
    names: dict[type, list[str]] = {}
    for name, policy in POLICIES.items():
        names.setdefault(policy, []).append(f"`{name}`")
    return "\n".join(
        f"### {', '.join(named)}\n\n{_summary(policy)}\n"
        + (f"\n{_json_fields(policy)}" if formats_of(policy) else "\nNo parameters.\n")
        for policy, named in names.items()
    )


def _method(function: Callable[..., object]) -> str:
    return _keywords(inspect.unwrap(function), _section(function, "Args"))


def _commands() -> str:
    """Each command with its options."""
    return "\n".join(_command_section(parser) for parser in _leaves(command_line()))


def _leaves(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """All commands that have none below them."""
    groups = [each for each in parser._actions if isinstance(each, argparse._SubParsersAction)]
    if not groups:
        yield parser
    for group in groups:
        for below in group.choices.values():
            yield from _leaves(below)


def _command_section(parser: argparse.ArgumentParser) -> str:
    rows = (
        (f"`{', '.join(action.option_strings) or action.dest}`", _value(action), _cell(action.help))
        for action in parser._actions
        if action.dest != "help"
    )
    summary, _, details = (parser.description or "").partition("\n\n")
    return (
        f"## {parser.prog}\n\n{summary}. {_cell(details)}".rstrip()
        + "\n\n"
        + _table(("option", "value", "what"), rows)
    )


def _value(action: argparse.Action) -> str:
    if action.nargs == 0:
        return ""
    shown = action.metavar or "|".join(action.choices or ())
    return f"`{_cell(str(shown))}`" if shown else ""


TABLES: dict[str, Callable[[], str]] = {
    "events": _events,
    "event_names": _event_names,
    "public": _public,
    "mesh": lambda: _members(meshkit.Mesh),
    "server": lambda: _members(meshkit.Server),
    "channel": lambda: _members(meshkit.Channel, ("counts", "endpoints", "status")),
    "mesh_keywords": lambda: _method(meshkit.Mesh.__init__),
    "channel_keywords": lambda: _method(meshkit.Mesh.channel),
    "register_keywords": lambda: _method(meshkit.Mesh.register),
    "serve_keywords": lambda: _fields(meshkit.ServerOptions),
    "quiet": lambda: _fields(meshkit.Quiet),
    "service_config": lambda: _json_fields(meshkit.ServiceConfig),
    "method_config": lambda: _json_fields(meshkit.MethodConfig),
    "method_name": lambda: _json_fields(meshkit.MethodName),
    "retry_policy": lambda: _json_fields(meshkit.RetryPolicy),
    "hedging_policy": lambda: _json_fields(meshkit.HedgingPolicy),
    "retry_throttling": lambda: _json_fields(meshkit.RetryThrottling),
    "health_check_config": lambda: _json_fields(meshkit.HealthCheckConfig),
    "outlier_detection": lambda: _json_fields(meshkit.OutlierDetection),
    "success_rate_ejection": lambda: _json_fields(meshkit.SuccessRateEjection),
    "failure_percentage_ejection": lambda: _json_fields(meshkit.FailurePercentageEjection),
    "circuit_breaker": lambda: _json_fields(meshkit.CircuitBreaker),
    "slow_start": lambda: _json_fields(meshkit.SlowStart),
    "subsetting": lambda: _json_fields(Subsetting),
    "zone_aware": lambda: _json_fields(meshkit.ZoneAware),
    "route": lambda: _json_fields(meshkit.Route),
    "route_match": lambda: _json_fields(meshkit.RouteMatch),
    "header_match": lambda: _json_fields(meshkit.HeaderMatch),
    "destination": lambda: _json_fields(meshkit.Destination),
    "policies": _policies,
    "commands": _commands,
    "limit": lambda: _fields(meshkit.AdaptiveLimit),
    "load_reports": lambda: _fields(meshkit.LoadReports),
}


def regenerated(text: str) -> str:
    """The text of a page with its tables as they should be."""
    return _MARKED.sub(lambda found: f"{found[1]}\n{TABLES[found[2]]()}\n{found[3]}", text)


def main() -> None:
    for page in pages():
        path = ROOT / page
        text = path.read_text(encoding="utf-8")
        if (new := regenerated(text)) != text:
            path.write_text(new, encoding="utf-8")
            print(f"written: {page}")


if __name__ == "__main__":
    main()
