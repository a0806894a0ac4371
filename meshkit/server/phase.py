"""The life of a server: a table of what may follow what.

```text
NEW --> SERVING --> DRAINING --> STOPPED
 `--------------------------------^        it could not start
```
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

__all__ = ["Phase"]


class Phase(enum.StrEnum):
    """Where a server is in its life."""

    NEW = "new"
    SERVING = "serving"
    DRAINING = "draining"  # takes no part in the mesh any more, finishes what it has
    STOPPED = "stopped"

    def to(self, following: Phase) -> Phase:
        """`following`, if it may follow this phase.

        Raises:
            RuntimeError: it may not.
        """
        if following not in _FOLLOWING[self]:
            raise RuntimeError(f"a server that is {self} cannot become {following}")
        return following


_FOLLOWING: Final[Mapping[Phase, frozenset[Phase]]] = MappingProxyType(
    {
        Phase.NEW: frozenset({Phase.SERVING, Phase.STOPPED}),
        Phase.SERVING: frozenset({Phase.DRAINING}),
        Phase.DRAINING: frozenset({Phase.STOPPED}),
        Phase.STOPPED: frozenset(),
    }
)
