"""What one stream has asked for, was sent, and made of it. Pure: requests in, answers out.

Both variants of the protocol are one state: names that are wanted, and the version of each that
was sent. State of the world replaces the names with each request, delta changes them; what is due
is the difference between wanted and sent. So a burst of changes is one answer, and there is no
queue. Source: Envoy's xDS protocol; gRFC A27.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, final

from meshkit.xds.exchange import WILDCARD, Absent, Answer, Change, Found, Refusal, View
from meshkit.xds.resources import (
    CLUSTER,
    ENDPOINT,
    LISTENER,
    PUSH_ORDER,
    ROUTE,
    Resource,
    version_of,
)

__all__ = ["Subscription", "Subscriptions"]

_LISTED: Final = frozenset({CLUSTER, LISTENER})  # of which a client may want all there are
_TOLD: Final = ""  # the version of what a client was told does not exist
_MOST_PENDING: Final = 64


@final
class Subscription:
    """One type of resources on one stream.

    Args:
        type_url: the type.
        delta: the variant.
        first: the first request.

    Attributes:
        names: that are wanted; "*" are all that are listed.
        fresh: whether the client came without any.
        sent: the version of each resource that was sent.
        accepted: the version of each that the client took.
        refusal: the last answer, if the client refused it.
    """

    def __init__(self, type_url: str, *, delta: bool, first: Change) -> None:
        self.type_url: Final = type_url
        self.fresh: Final = not first.has_some
        self.names: set[str] = set()
        self.sent: dict[str, str] = {}
        self.accepted: dict[str, str] = {}
        self.refusal: Refusal | None = None
        self._is_delta = delta
        # Here each answer has all resources, and what is not in it is deleted.
        self._is_whole = not delta and type_url in _LISTED
        self._is_explicit = False  # whether it ever had names
        self._is_answered = False
        self._nonce = ""  # of the last answer
        self._pending: dict[str, dict[str, str]] = {}  # versions by nonce
        self.take(first)

    def take(self, change: Change) -> Refusal | None:
        """Take note of a request; the refusal that it brings."""
        sent = self._pending.pop(change.nonce, None)
        refusal = None if sent is None else self._judge(sent, change.error)
        if change.nonce and not self._is_delta and change.nonce != self._nonce:
            return refusal  # stale: which names are wanted, a later one says again
        if change.names is not None:
            names = set(change.names)
        else:
            names = self.names.union(change.more).difference(change.fewer)
        self._is_explicit = self._is_explicit or bool(names)
        if not self._is_explicit and self.type_url in _LISTED:
            names = {WILDCARD}  # the old way to say so
        self.names = names
        for name in change.more:  # who asks again has lost it
            self.sent.pop(name, None)
        self.sent.update(change.versions)
        if WILDCARD not in names:
            self.sent = {name: self.sent[name] for name in names & self.sent.keys()}
            self.accepted = {name: self.accepted[name] for name in names & self.accepted.keys()}
        return refusal

    def _judge(self, sent: dict[str, str], error: str) -> Refusal | None:
        self.refusal = Refusal(sent, error) if error else None
        if not error:
            self.accepted.update(sent)
        return self.refusal

    def due(self, view: View, nonces: Iterator[str]) -> Answer | None:
        """What is to be sent now; counts as sent."""
        names = self._wanted(view)
        if names is None:
            return None
        found = {name: view.find(self.type_url, name, fresh=self.fresh) for name in names}
        if self._is_whole and Absent.UNKNOWN in found.values():
            return None
        present = [each for each in found.values() if isinstance(each, Resource)]
        changed = [each for each in present if self.sent.get(each.name) != each.version]
        removed = self._missing(found)
        is_first = not self._is_answered and self.type_url in _LISTED  # even "none" is an answer
        is_news = bool(changed or (removed and (self._is_delta or self._is_whole)))
        if not is_news and (not is_first or Absent.UNKNOWN in found.values()):
            return None
        answer = Answer(
            type_url=self.type_url,
            resources=tuple(present if self._is_whole else changed),
            changed=tuple(each.name for each in changed),
            removed=removed,
            version=version_of(present),
            nonce=next(nonces),
        )
        self._note(answer)
        return answer

    def known(self) -> set[str]:
        """The names of what was sent or asked for."""
        return (self.names - {WILDCARD}).union(self.sent)

    @property
    def is_pending(self) -> bool:
        """Whether the last answer has not been answered."""
        return self._nonce in self._pending

    def forget(self, names: Iterable[str]) -> None:
        """The client will want these again, although it has them."""
        for name in names:
            self.sent.pop(name, None)

    def _wanted(self, view: View) -> set[str] | None:
        """The names of all that is wanted; None: not known yet."""
        if WILDCARD not in self.names:
            return self.names
        listed = view.listed(self.type_url, fresh=self.fresh)
        return None if listed is None else (self.names - {WILDCARD}).union(listed)

    def _missing(self, found: Mapping[str, Found]) -> tuple[str, ...]:
        """What there is none of, and the client does not know that."""
        if Absent.NONE not in found.values() and self.sent.keys() <= found.keys():
            return ()  # as nearly always
        asked = {name for name, each in found.items() if each is Absent.NONE}
        gone = self.sent.keys() - found.keys()
        missing = {name for name in asked | gone if self.sent.get(name) != _TOLD}
        for name in gone:
            del self.sent[name]
        self.sent.update(dict.fromkeys(asked, _TOLD))
        return tuple(sorted(missing))

    def _note(self, answer: Answer) -> None:
        versions = {each.name: each.version for each in answer.resources}
        self.sent.update(versions)
        if len(self._pending) >= _MOST_PENDING:
            del self._pending[next(iter(self._pending))]
        self._nonce = answer.nonce
        self._pending[answer.nonce] = versions
        self._is_answered = True
        for name in answer.removed:
            self.accepted.pop(name, None)


@final
class Subscriptions:
    """All that one stream has asked for.

    Attributes:
        is_asked: whether a request may have made anything due; for the reader to take back.
    """

    def __init__(self, *, delta: bool) -> None:
        self._is_delta = delta
        self._nonces = map(str, itertools.count(1))
        self.by_type: dict[str, Subscription] = {}
        self.is_asked = False

    def take(self, type_url: str, change: Change) -> Refusal | None:
        """Take note of a request; the refusal that it brings."""
        if type_url not in PUSH_ORDER:
            return None
        if (found := self.by_type.get(type_url)) is None:
            self.by_type[type_url] = Subscription(type_url, delta=self._is_delta, first=change)
            self.is_asked = True
            return None
        before = found.names
        refusal = found.take(change)
        # Most requests answer an answer, and want nothing but what they have; but see
        # `_clusters_stand`.
        is_more = found.names != before or bool(change.more)
        self.is_asked = self.is_asked or is_more or type_url == CLUSTER
        return refusal

    def names(self) -> set[str]:
        """All names asked for, whatever the type."""
        return {name for each in self.by_type.values() for name in each.names}

    def wants_all(self, type_url: str) -> bool:
        """Whether all that is listed of a type is wanted."""
        return type_url in self.by_type and WILDCARD in self.by_type[type_url].names

    def due(self, view: View) -> Iterator[Answer]:
        """What is to be sent now, in this order; each counts as sent when it is taken."""
        for type_url in PUSH_ORDER:
            subscription = self.by_type.get(type_url)
            if subscription is None or (type_url == ROUTE and not self._clusters_stand()):
                continue
            answer = subscription.due(view, self._nonces)
            if answer is None:
                continue
            if type_url == CLUSTER and ENDPOINT in self.by_type:
                # Envoy waits for the endpoints of a cluster that changed, even if they did not.
                self.by_type[ENDPOINT].forget(answer.changed)
            yield answer

    def _clusters_stand(self) -> bool:
        """Whether the clusters that routes may name are in use: an Envoy fails calls to others.

        They are when it has taken them, and was sent their endpoints.
        """
        clusters, endpoints = self.by_type.get(CLUSTER), self.by_type.get(ENDPOINT)
        if clusters is None or WILDCARD not in clusters.names:
            return True  # clients of gRPC ask for a cluster when a route names it
        sent = endpoints.sent if endpoints is not None else {}
        return not clusters.is_pending and clusters.accepted.keys() <= sent.keys()
