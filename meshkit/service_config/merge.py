"""One service config of several: field by field, the strongest that says something holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any, Final, final

from meshkit.fields import camel_case
from meshkit.service_config.config import ServiceConfig
from meshkit.service_config.methods import MethodConfig, MethodName

__all__ = ["Merged", "merge"]

_MERGED_APART: Final = frozenset({"method_config", "name"})
_ONE_OF: Final = frozenset({"retry_policy", "hedging_policy"})  # the weaker's other one is out


@final
@dataclass(frozen=True, slots=True)
class Merged:
    """What holds of several service configs.

    Attributes:
        config: of each field the strongest value.
        sources: where the value of each field that has one comes from, by its path in JSON. The
            methods have their names there: `methodConfig[/helloworld.Greeter/*].timeout`.
    """

    config: ServiceConfig
    sources: Mapping[str, str]


def merge(configs: Mapping[str, ServiceConfig | None]) -> Merged:
    """What holds of `configs`, the strongest first; their keys say where each comes from.

    Of a method that one of them names, each contributes what it has for that method. So a field
    that the entry of the stronger one leaves open is that of the weaker one's default, if it has
    no better entry.
    """
    given = [(source, config) for source, config in configs.items() if config is not None]
    sources: dict[str, str] = {}
    found = _strongest(((source, _said(config)) for source, config in given), sources)
    entries = (entry for _, config in given for entry in config.method_config)
    names = {name.path: name for entry in entries for name in entry.name}
    methods = tuple(_method(names[path], given, sources) for path in sorted(names))
    config = ServiceConfig(method_config=methods, **found)
    return Merged(config, MappingProxyType(sources))


def _method(
    name: MethodName, given: list[tuple[str, ServiceConfig]], sources: dict[str, str]
) -> MethodConfig:
    """The entry for `name`."""
    said = ((source, _said(config.for_method(name.path))) for source, config in given)
    return MethodConfig(name=(name,), **_strongest(said, sources, f"methodConfig[{name}]."))


def _said(record: ServiceConfig | MethodConfig) -> dict[str, Any]:
    """The fields that have a value."""
    names = (field.name for field in fields(record) if field.init)
    values = {name: getattr(record, name) for name in names if name not in _MERGED_APART}
    return {name: value for name, value in values.items() if value is not None}


def _strongest(
    given: Iterable[tuple[str, dict[str, Any]]], sources: dict[str, str], place: str = ""
) -> dict[str, Any]:
    """Each field as the first has it who does, which is noted in `sources`."""
    found: dict[str, Any] = {}
    for source, said in given:
        is_late = not _ONE_OF.isdisjoint(found)
        for name, value in said.items():
            if name not in found and not (is_late and name in _ONE_OF):
                found[name] = value
                sources[place + camel_case(name)] = source
    return found
