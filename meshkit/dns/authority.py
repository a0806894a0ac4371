"""Who can answer for the zone: knows the endpoints of each service that is asked for."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import ExitStack
from typing import Final, final

import anyio
import dns.message

from meshkit.discovery import Directory, Watch
from meshkit.dns.answers import Answers, Query
from meshkit.endpoint import EndpointSet
from meshkit.errors import ConfigError, MeshClosedError

__all__ = ["Authority"]

_WATCHED: Final = 1000  # services
_WAITING: Final = 100  # queries
_FOR_NAMES: Final = 0.25  # of the patience


@final
class Authority:
    """Answers for services as a resolver sees them.

    A service is watched from the first query on, so that the next answers need no registry, and
    those during an outage are the last known ones. Nobody is told that something does not exist
    before the registry has said so; what it says does not exist costs it nothing from then on.

    Args:
        directory: knows the services and their endpoints.
        answers: knows the zone.
        patience: seconds for which an answer is held while the registry has not told us yet.
        watched: how many services are watched; then the one not asked for the longest is let go,
            those that nobody has registered first.
        waiting: how many answers are held.
    """

    def __init__(
        self,
        directory: Directory,
        answers: Answers,
        *,
        patience: float,
        watched: int = _WATCHED,
        waiting: int = _WAITING,
    ) -> None:
        self._directory = directory
        self._answers = answers
        self._patience = patience
        self._most_watched = watched
        self._most_waiting = waiting
        self._held: OrderedDict[str, _Held] = OrderedDict()
        self._waiting = 0

    @property
    def watched(self) -> tuple[str, ...]:
        """The services that are watched, the one asked for last at the end."""
        return tuple(self._held)

    def answer(self, query: Query) -> dns.message.Message | None:
        """What there is to say now; None if the registry has to be waited for."""
        if query.service is None:
            return self._answers.answer(query)
        held = self._held.get(query.service)
        if held is None:
            return None
        self._held.move_to_end(query.service)
        return self._answers.answer(query, held.endpoints)

    async def wait(self, query: Query) -> dns.message.Message:
        """What there is to say when the registry has told us of `query.service`.

        Bounded in time and in number; beyond them the asker is told to try again.
        """
        if query.service is None or self._waiting >= self._most_waiting:
            return self._answers.failure(query, "too many answers wait for the registry")
        self._waiting += 1
        try:
            return await self._told(query, query.service)
        except ConfigError:  # no service can have that name
            return self._answers.answer(query)
        except MeshClosedError as error:
            return self._answers.failure(query, str(error))
        finally:
            self._waiting -= 1

    async def _told(self, query: Query, asked: str) -> dns.message.Message:
        service = await self._find(asked)
        if service is None:
            return self._answers.answer(query)
        with ExitStack() as stack:
            watch = stack.enter_context(self._directory.watch(service))
            with anyio.move_on_after(self._patience):
                endpoints = await _first(watch)
                self._keep(asked, _Held(watch, stack.pop_all()))
                return self._answers.answer(query, endpoints)
            trouble = watch.latest.value.trouble or "no answer yet"
            return self._answers.failure(query, f"{watch.registry}: {trouble}")

    async def _find(self, asked: str) -> str | None:
        """The service that is meant, as DNS does not tell capitals; None if there is none.

        While the names of all services are not known, as to a user who may not list them, it is
        taken as it was asked for.
        """
        names = self._directory.watch_services()
        with anyio.move_on_after(self._patience * _FOR_NAMES):
            async for known in names.values():
                if known is not None:
                    break
        if names.value is None or asked in names.value:
            return asked
        return min((name for name in names.value if name.lower() == asked), default=None)

    def close(self) -> None:
        """Let go of all services."""
        while self._held:
            self._held.popitem()[1].hold.close()

    def _keep(self, service: str, held: _Held) -> None:
        """Go on to watch `service`, at the cost of one that matters less."""
        if (known := self._held.pop(service, None)) is not None:
            known.hold.close()
        elif len(self._held) >= self._most_watched:
            empty = (name for name, other in self._held.items() if not other.endpoints)
            self._held.pop(next(empty, next(iter(self._held)))).hold.close()
        self._held[service] = held


@final
class _Held:
    """A watch that has told something, and our hold of it."""

    __slots__ = ("_watch", "hold")

    def __init__(self, watch: Watch, hold: ExitStack) -> None:
        self._watch = watch
        self.hold = hold

    @property
    def endpoints(self) -> EndpointSet | None:
        return self._watch.latest.value.endpoints


async def _first(watch: Watch) -> EndpointSet:
    """The endpoints, as soon as they are known."""
    async for resolution in watch.latest.values():
        if resolution.endpoints is not None:
            return resolution.endpoints
    raise AssertionError("values never end")
