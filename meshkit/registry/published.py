"""What a watcher believes of a service's config: an entry in, `ServiceConfig` out. No loop here.

It is treated as the endpoints are. A deletion that is seen is believed at once. One that is merely
missing from a list is held for a while, and for as long as nothing else of the service is there
either: the list may come from an older backup, or from a registry that has lost everything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, final

from meshkit.events import (
    Emit,
    ServiceConfigChanged,
    ServiceConfigRefused,
    ServiceConfigWithdrawn,
)
from meshkit.registry.layouts.reading import read_text
from meshkit.registry.store import KeyValue
from meshkit.service_config import ServiceConfig

__all__ = ["Published"]


@final
class Published:
    """The service config at one key; implements `keeper.Known`.

    Attributes:
        prefix: the key.
        config: the last good one; None if there is none.

    Args:
        service: the service's name.
        key: where its config is published.
        hold: seconds for which one that is missing from a list is kept.
        emit: told when it changes, and of one that cannot be used.
    """

    def __init__(self, service: str, key: str, *, hold: float, emit: Emit) -> None:
        self.prefix: Final = key
        self.config: ServiceConfig | None = None
        self._service = service
        self._hold = hold
        self._emit = emit
        self._value: bytes | None = None  # of `config`
        self._refused: bytes | None = None
        self._missing_since: float | None = None
        self._recalled = False

    def relist(
        self, found: KeyValue | None, now: float, *, alone: bool, unheard: float = 0.0
    ) -> None:
        """Take what a list has.

        Args:
            found: its entry; None if it has none.
            now: in seconds.
            alone: whether nothing is known to stand in the registry but, maybe, this.
            unheard: seconds for which the registry could not be reached, until now.
        """
        if found is not None and found.value is not None:
            self._put(found.value)
        elif self._recalled and not alone:
            self._drop()
        elif self._missing_since is None or self._recalled:
            self._missing_since, self._recalled = now, False
        else:
            self._missing_since += unheard
            if not alone and now >= self._missing_since + self._hold:
                self._drop()

    def apply(self, change: KeyValue) -> None:
        """Take a change; a deletion is believed."""
        if change.value is None:
            self._drop()
        else:
            self._put(change.value)

    def recall(self, items: Iterable[KeyValue], now: float) -> None:
        """Take what an earlier process knew, until a list says what holds."""
        for item in items:
            self.apply(item)
        self._missing_since, self._recalled = now, True

    def next_expiry(self, *, alone: bool) -> float | None:
        """When a list may say that a held config is gone; None if time alone does not end it."""
        if self.config is None or self._missing_since is None or alone:
            return None
        return self._missing_since + self._hold

    def confirmed(self) -> Mapping[str, bytes] | None:
        """The last good value by its key, as the registry has it; None: there is none."""
        if self._value is None:
            return None
        return {} if self._missing_since is not None else {self.prefix: self._value}

    def encode(self, value: bytes) -> tuple[str, bytes]:
        """A value in one line; JSON has no line ends but between its parts."""
        return self.prefix, value.translate(_BLANKS)

    def _put(self, value: bytes) -> None:
        self._missing_since, self._recalled = None, False
        if value == self._value:
            self._refused = None
        if value in (self._value, self._refused):
            return
        unknown: list[str] = []
        try:
            text = read_text(value)
            config = ServiceConfig.parse(text, unknown=unknown)
        except ValueError as error:
            self._refused = value
            self._emit(ServiceConfigRefused(self._service, self.prefix, str(error)))
            return
        self.config, self._value, self._refused = config, value, None
        self._emit(ServiceConfigChanged(self._service, text, tuple(unknown)))

    def _drop(self) -> None:
        self._refused = self._missing_since = None
        self._recalled = False
        if self.config is not None:
            self.config = self._value = None
            self._emit(ServiceConfigWithdrawn(self._service))


_BLANKS: Final = bytes.maketrans(b"\r\n", b"  ")
