"""Which endpoints of a service: those of a version, and with labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, final

from meshkit.endpoint import Endpoint

__all__ = ["EVERY", "Selector"]


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
