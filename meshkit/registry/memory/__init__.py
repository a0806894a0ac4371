"""A store in memory, with a script of faults; public through `meshkit.testing`."""

from meshkit.registry.memory.contents import Contents
from meshkit.registry.memory.store import MemoryStore

__all__ = ["Contents", "MemoryStore"]
