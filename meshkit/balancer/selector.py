"""Which endpoints of a service: those of a version, and with labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, final

from meshkit.endpoint import Endpoint, EndpointSet

__all__ = ["EVERY", "Selected", "Selector"]


@final
@dataclass(frozen=True, slots=True)
class Selector:
    """Takes the endpoints of one version that have all of some labels in their metadata.

    Attributes:
        version: theirs; "": any.
        labels: pairs of a key and its value.
    """

    version: str = ""
    labels: frozenset[tuple[str, str]] = frozenset()

    def takes(self, endpoint: Endpoint) -> bool:
        """Whether `endpoint` is one of those."""
        if self.version and endpoint.version != self.version:
            return False
        return all(endpoint.metadata.get(key) == value for key, value in self.labels)

    def __str__(self) -> str:
        """`version v2, track=beta`, for people."""
        version = (f"version {self.version}",) if self.version else ()
        labels = (f"{key}={value}" for key, value in sorted(self.labels))
        return ", ".join((*version, *labels)) or "any"


EVERY: Final = Selector()
"""Takes all endpoints."""


@final
class Selected:
    """Those of a set that a selector takes; kept up to date at the price of what changes."""

    def __init__(self, selector: Selector) -> None:
        self._selector = selector
        self._seen: EndpointSet | None = None
        self._found: EndpointSet | None = None

    def of(self, endpoints: EndpointSet) -> EndpointSet:
        """Those of `endpoints`."""
        if self._selector == EVERY:
            return endpoints
        delta = endpoints.since(self._seen)
        before = self._found or EndpointSet(endpoints.service)
        put = {e.id: e for e in (*delta.added, *delta.changed) if self._selector.takes(e)}
        left = (e.id for e in (*delta.removed, *delta.changed) if e.id not in put)
        drop = [endpoint_id for endpoint_id in left if endpoint_id in before.by_id]
        self._seen = endpoints
        self._found = before.with_changes(put, drop, revision=endpoints.revision)
        return self._found
