"""In turn, past those that are clearly worse: the default."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final, final

from meshkit.balancer.policies.policy import Clock, N, Node, PickInfo
from meshkit.balancer.policies.weighted import Rotation
from meshkit.fields import Number, check

__all__ = ["Adaptive"]

_LOOKS: Final = 8  # nodes that one call looks at
_CHANCE: Final = 0.0005  # seconds by which event loops and sockets make equal servers differ
_BUSY: Final = 2.0  # times the usual number of calls, above which a node is passed over
_QUARTER: Final = 0.25  # of the nodes cost less than what is usual
_STEP: Final = 1.02  # by which the usual cost moves up with one look
_STEP_DOWN: Final = 1.0 - (_STEP - 1.0) * (1.0 - _QUARTER) / _QUARTER
_TRIALS: Final = 3  # calls of a new node, before it is judged
_MEMORY: Final = 1 / 16  # share of one look in the usual number of calls


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Adaptive:
    """Takes the nodes in turn, by weight, and passes over those that are clearly worse than usual.

    A rotation spreads calls over equal servers better than any dice, since the next in turn is the
    one that has had the most time to finish; but it has no eyes. So the node whose turn it is has
    to compare. It takes the call if it

    - costs at most `margin` times what is usual, and half a millisecond, and would not have more
      than twice the usual number of calls; or
    - promises to be done with the call as soon as the others all the same, since they are busy.

    What a node costs is its average latency, failed calls counting as slow ones. A quarter of the
    nodes cost less than what is usual: as long as that many are well, the others are compared with
    them. Equal servers differ by chance only, less than `margin`: there this is `round_robin`.

    Of a new node the usual is expected until three of its calls have ended. What a node costs
    falls while it is left alone, so that it is tried again, by single calls, until it does well.

    Attributes:
        margin: by how many times a node must cost more than usual to be passed over. Less reacts
            to smaller differences, and takes more chance for difference.
    """

    margin: Annotated[float, Number(1)] = 1.5

    def __post_init__(self) -> None:
        check(self)

    def picker(self, rng: random.Random, now: Clock) -> _Adaptive:
        """The picker of one client."""
        return _Adaptive(self.margin, rng, now)


@final
class _Adaptive:
    """The rotation, and what is usual, learnt from the nodes that it comes by."""

    __slots__ = ("_calls", "_cost", "_margin", "_now", "_rotation")

    def __init__(self, margin: float, rng: random.Random, now: Clock) -> None:
        self._margin = margin
        self._now = now
        self._rotation = Rotation(rng)
        self._cost = 0.0  # that is usual, in seconds; 0.0 while unknown
        self._calls = 1.0  # that a node usually has, with the one that it is to take

    def pick(self, ready: Sequence[N], info: PickInfo) -> N:  # noqa: ARG002
        """Choose the next in turn that is about as good as others are."""
        node = self._rotation.turn(ready)
        if self._fits(node):
            return node
        looked = [node]
        for _ in range(min(_LOOKS, len(ready)) - 1):
            node = self._rotation.turn(ready)
            if self._fits(node):
                return node
            looked.append(node)
        return min(looked, key=self._promise)

    def _fits(self, node: Node) -> bool:
        """Whether a node is about as good as others are; and learn from it what is usual."""
        usual = self._cost
        cost = node.cost or usual
        # A running quantile: for each look that finds more, three find less.
        self._cost = usual * (_STEP if cost > usual else _STEP_DOWN) if usual else cost
        calls = self._calls_of(node) if node.pending else 1.0
        most = _BUSY * self._calls
        is_busy = calls > most
        self._calls += _MEMORY * ((most if is_busy else calls) - self._calls)
        limit = 0.0 if is_busy else self._margin * usual + _CHANCE
        if cost <= limit:
            return True
        return self._expected(node) <= max(limit, usual * self._calls / calls)

    def _promise(self, node: Node) -> float:
        """Seconds until the next call would have its answer."""
        return self._expected(node) * self._calls_of(node)

    def _expected(self, node: Node) -> float:
        """What a node costs now, the time that has passed considered; of a new one, the usual."""
        return node.cost * node.fresh(self._now()) if node.samples >= _TRIALS else self._cost

    def _calls_of(self, node: Node) -> float:
        """Calls that a node would have with one more, as if it were one of the greatest weight."""
        return 1.0 + node.pending * self._rotation.greatest / node.endpoint.weight
