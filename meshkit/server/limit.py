"""How many calls a server takes at a time: a limit that finds its own height.

A server that takes more than it can do answers all of them late; one that refuses the rest answers
most of them in time, and the refused go elsewhere. Where the limit lies is found from latency: as
long as calls take as long as on a calm server, there is room; when they take longer, they queue.

After Netflix's Gradient2 (https://github.com/Netflix/concurrency-limits) and Envoy's adaptive
concurrency filter, with three differences. Each method is compared with itself, as a mix of quick
and slow ones says nothing. What is normal is learnt from calm moments only, so that an overload
that lasts does not become normal; if there are none, from a short probe. And the event loop counts:
one that runs late is overloaded, whatever the latencies say.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol, final

from meshkit.errors import ConfigError

__all__ = ["AdaptiveLimit", "AdaptiveLimiter", "FixedLimiter", "Limiter", "Place"]

_FEWEST: Final = 10  # calls that say something of a window
_SMOOTHING: Final = 0.2
_OUTLIER: Final = 4.0  # no call counts as having taken longer than so many times what is normal
# Calm calls that make up what is normal. Many, as those that begin together end with the slow ones.
_MEMORY: Final = 500
_PROBED: Final = 50  # of a probe; they count as much as all that was known before
_LONGEST_PROBE: Final = 4  # windows; where calls are slow, fewer of them must do
_METHODS: Final = 256  # more share one memory; a server of any name could have endlessly many
_JITTER: Final = 0.15


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptiveLimit:
    """A limit of the calls in flight that follows what the server can do. Times are seconds.

    Attributes:
        initial: where it begins.
        minimum: it never falls below; so many calls side by side must not slow each other down.
        maximum: it never rises above.
        tolerance: calls may take so many times as long as on a calm server.
        max_lag: the event loop may run so late.
        window: between two decisions; longer while fewer than ten calls have ended.
        probe_after: without a calm moment for so long, a short one is made.
    """

    initial: int = 20
    minimum: int = 2
    maximum: int = 1000
    tolerance: float = 1.5
    max_lag: float = 0.1
    window: float = 0.25
    probe_after: float = 60.0

    def __post_init__(self) -> None:
        if not 1 <= self.minimum <= self.initial <= self.maximum:
            raise ConfigError(
                "a limit needs 1 <= minimum <= initial <= maximum, got "
                f"{self.minimum}, {self.initial}, {self.maximum}"
            )
        if self.tolerance < 1:
            raise ConfigError(f"tolerance must be 1 or more, got {self.tolerance}")
        if min(self.max_lag, self.window, self.probe_after) <= 0:
            raise ConfigError("max_lag, window and probe_after must be above 0")


@final
class Place:
    """What a call has that was let in."""

    __slots__ = ("began", "is_calm", "is_held")

    def __init__(self, began: float, is_calm: bool) -> None:
        self.began = began
        self.is_calm = is_calm  # nobody was in its way
        self.is_held = True


class Limiter(Protocol):
    """Lets calls in, or not. All times are of one clock, in seconds."""

    limit: int
    refused: int

    def enter(self, now: float) -> Place | None:
        """A place for a call; None if there is none."""
        ...

    def free(self, place: Place) -> None:
        """The call turned out to be a stream."""
        ...

    def leave(self, place: Place, method: str, now: float) -> None:
        """The call has ended."""
        ...

    def pushback(self) -> float:
        """Seconds after which a call that was refused may be tried again."""
        ...


@final
class FixedLimiter:
    """A limit that stays where it is; streams hold their place as long as they are open."""

    def __init__(self, limit: int, rng: random.Random) -> None:
        self.limit = limit
        self.refused = 0
        self._rng = rng
        self._occupied = 0
        self._duration = 0.0

    def enter(self, now: float) -> Place | None:
        """A place for a call; None if there is none."""
        if self._occupied >= self.limit:
            self.refused += 1
            return None
        self._occupied += 1
        return Place(now, is_calm=True)

    def free(self, place: Place) -> None:
        """A stream is a call like any other."""

    def leave(self, place: Place, method: str, now: float) -> None:  # noqa: ARG002 -- of the port
        """The call has ended."""
        self._occupied -= 1
        self._duration += _SMOOTHING * (now - place.began - self._duration)

    def pushback(self) -> float:
        """Seconds after which a call that was refused may be tried again."""
        return _pushback(self._duration, self._rng)


@final
class AdaptiveLimiter:
    """Follows what the server can do.

    Args:
        options: the bounds.
        rng: dice.
        lag: how many seconds late the event loop runs.
    """

    def __init__(
        self, options: AdaptiveLimit, rng: random.Random, lag: Callable[[], float]
    ) -> None:
        self.limit = options.initial
        self.refused = 0
        self._options = options
        self._rng = rng
        self._lag = lag
        self._estimate = float(options.initial)  # the limit before rounding and probing
        self._is_starting = True  # until calls slow each other down for the first time
        self._occupied = 0
        self._normal: dict[str, _Normal] = {}
        self._window = _Window(0.0)
        self._calm_at: float | None = None  # when calm was last seen; None before the first call
        self._patience = self._fresh_patience()
        self._duration = 0.0

    # ---- calls

    def enter(self, now: float) -> Place | None:
        """A place for a call; None if there is none."""
        beside = self._occupied
        if beside >= self.limit:
            self.refused += 1
            return None
        self._occupied = beside + 1
        self._window.peak = max(self._window.peak, self._occupied)
        return Place(now, is_calm=beside < max(self._options.minimum, self.limit / 2))

    def free(self, place: Place) -> None:
        """The call is a stream: it holds no place, and how long it takes says nothing."""
        place.is_held = False
        self._occupied -= 1

    def leave(self, place: Place, method: str, now: float) -> None:
        """The call has ended."""
        if not place.is_held:
            return
        self._occupied -= 1
        latency = now - place.began
        self._duration += _SMOOTHING * (latency - self._duration)
        if method not in self._normal and len(self._normal) >= _METHODS:
            method = ""
        normal = self._normal.setdefault(method, _Normal(latency))
        if place.is_calm:
            self._calm_at = now
            normal.learn(latency)
        self._window.add(normal.compare(latency), is_calm=place.is_calm)
        if now - self._window.began >= self._options.window and self._window.calls >= _FEWEST:
            self._decide(now)

    def pushback(self) -> float:
        """Seconds after which a call that was refused may be tried again."""
        return _pushback(self._duration, self._rng)

    # ---- the limit

    def _decide(self, now: float) -> None:
        """A window has ended: where should the limit be?"""
        window = self._window
        if window.is_probe and not self._has_probed(now):
            return
        if not window.is_probe and window.peak >= self._estimate / 2:  # else nobody tried it
            self._move(window.mean())
        self._window = _Window(now)
        self.limit = int(self._estimate)
        if self._calm_at is not None and now - self._calm_at > self._patience:
            self._probe()

    def _probe(self) -> None:
        self._window.is_probe = True
        self._patience = self._fresh_patience()
        self.limit = self._options.minimum
        for normal in self._normal.values():
            normal.doubt()

    def _has_probed(self, now: float) -> bool:
        is_long = now - self._window.began >= _LONGEST_PROBE * self._options.window
        return self._window.calm >= (_FEWEST if is_long else _PROBED)

    def _move(self, slowness: float) -> None:
        options = self._options
        gradient = options.tolerance / slowness
        if (lag := self._lag()) > 0:
            gradient = min(gradient, options.max_lag / lag)
        gradient = max(0.5, min(1.0, gradient))
        self._is_starting = self._is_starting and gradient == 1.0
        if self._is_starting:
            moved = 2 * self._estimate
        else:  # some may queue: how high it could be must be tried
            wanted = gradient * self._estimate + self._estimate**0.5
            moved = self._estimate + _SMOOTHING * (wanted - self._estimate)
        self._estimate = max(float(options.minimum), min(float(options.maximum), moved))

    def _fresh_patience(self) -> float:
        # Or the servers of a fleet would probe together.
        return self._options.probe_after * (1 + self._rng.uniform(-_JITTER, _JITTER))


@final
class _Normal:
    """How long the calls of a method take when nobody is in their way."""

    __slots__ = ("_seconds", "_seen")

    def __init__(self, first: float) -> None:
        self._seconds = first
        self._seen = 0

    def learn(self, latency: float) -> None:
        """A calm call took so long."""
        self._seen += 1
        capped = min(latency, _OUTLIER * self._seconds) if self._seen > _FEWEST else latency
        self._seconds += (capped - self._seconds) / min(self._seen, _MEMORY)

    def doubt(self) -> None:
        """What comes next counts more than what was."""
        self._seen = min(self._seen, _PROBED)

    def compare(self, latency: float) -> float:
        """How many times as long as normal."""
        return min(latency / self._seconds, _OUTLIER) if self._seconds > 0 else 1.0


@final
class _Window:
    """The calls that ended between two decisions."""

    __slots__ = ("_sum", "began", "calls", "calm", "is_probe", "peak")

    def __init__(self, began: float) -> None:
        self.began = began
        self.calls = 0
        self.calm = 0
        self.peak = 0  # most calls in flight
        self.is_probe = False
        self._sum = 0.0

    def add(self, slowness: float, *, is_calm: bool) -> None:
        """A call took so many times as long as normal."""
        self.calls += 1
        self.calm += is_calm
        self._sum += slowness

    def mean(self) -> float:
        """How many times as long as normal calls took."""
        return self._sum / self.calls


def _pushback(duration: float, rng: random.Random) -> float:
    """About as long as a call takes here: then a place is free. Not all at the same time."""
    return max(0.01, min(1.0, duration)) * rng.uniform(0.5, 1.5)
