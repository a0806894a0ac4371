"""etcd as a `Store`."""

from __future__ import annotations

import math
import random
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from operator import attrgetter
from typing import Any, Final, final

from aetcd import rpc

from meshkit.errors import RegistryUnavailable
from meshkit.events import Emit
from meshkit.registry.etcd.keepalive import KeepAlive
from meshkit.registry.etcd.keys import decode, encode, key_range, single
from meshkit.registry.etcd.member import Rpc
from meshkit.registry.etcd.options import EtcdOptions, split_endpoint
from meshkit.registry.etcd.session import Session
from meshkit.registry.etcd.watch import Watches
from meshkit.registry.store import Batch, Compacted, Grant, KeyValue, LeaseGone, Listing

__all__ = ["EtcdStore"]

_GRANT: Final[Rpc] = attrgetter("lease.LeaseGrant")
_RANGE: Final[Rpc] = attrgetter("kv.Range")
_REVOKE: Final[Rpc] = attrgetter("lease.LeaseRevoke")
_TXN: Final[Rpc] = attrgetter("kv.Txn")


@final
class EtcdStore:
    """An etcd cluster, 3.4 or later, as a `Store`.

    Requests go to one member at a time, and to the next one when it fails. A lease has whole
    seconds and, with etcd's default election timeout, at least 2. One `put` or `delete` takes as
    many keys as the cluster allows operations in a transaction (`--max-txn-ops`, 128), and one
    fewer if it depends on who holds them.

    Args:
        options: where the cluster is and how to talk to it.
        rng: chooses the member to begin with, and spreads the probes.
        emit: told of TLS files that were renewed, or cannot be used.
    """

    def __init__(
        self,
        options: EtcdOptions,
        *,
        rng: random.Random | None = None,
        emit: Emit = lambda _event: None,
    ) -> None:
        self._options = options
        rng = rng or random.Random()
        self._session = Session(options, rng, emit)
        self._keepalive = KeepAlive(self._session)
        self._watches = Watches(self._session, rng)
        self._cluster: int | None = None

    def __repr__(self) -> str:
        return f"EtcdStore({self.name})"

    @property
    def name(self) -> str:
        """The URL of the cluster, without user and password."""
        return self._options.url

    @property
    def peer(self) -> tuple[str, int]:
        """Host and port of the member in use, or to be used next."""
        return split_endpoint(self._session.endpoint)

    async def grant(self, ttl: float) -> Grant:
        """A new lease of `ttl` seconds, rounded up, or of what etcd raised that to."""
        answer = await self._session.call(_GRANT, rpc.LeaseGrantRequest(TTL=math.ceil(ttl)))
        return Grant(answer.ID, float(answer.TTL))

    async def renew(self, lease: int) -> float:
        """Renew a lease; the seconds it has now, or 0.0 if it is gone."""
        return await self._keepalive.renew(lease)

    async def revoke(self, lease: int) -> None:
        """End a lease and delete its keys in one revision; a lease that is gone is no error."""
        with suppress(LeaseGone):
            await self._session.call(_REVOKE, rpc.LeaseRevokeRequest(ID=lease))

    async def put(self, entries: Mapping[str, bytes], *, lease: int, if_held: bool = False) -> int:
        """Write all entries, or those held, in one revision under `lease`; returns the revision."""
        operations = {
            key: rpc.RequestOp(
                request_put=rpc.PutRequest(key=encode(key), value=value, lease=lease)
            )
            for key, value in entries.items()
        }
        return await self._commit(operations, held_by=lease if if_held else None)

    async def delete(self, keys: Iterable[str], *, lease: int | None = None) -> int:
        """Delete keys, or those under `lease`, in one revision; none is no error."""
        operations = {
            key: rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=encode(key)))
            for key in keys
        }
        return await self._commit(operations, held_by=lease)

    async def _commit(self, operations: Mapping[str, Any], *, held_by: int | None) -> int:
        """Do all in one revision, or each only while its key is held by that lease."""
        steps: Iterable[Any] = operations.values()
        if held_by is not None:
            steps = (_if_held(key, held_by, step) for key, step in operations.items())
        answer = await self._session.call(_TXN, rpc.TxnRequest(success=steps))
        return int(answer.header.revision)

    # Reads are no transactions: one that only reads, and is cancelled, ends the whole member before
    # etcd 3.5.7 and 3.4.23 (etcd#14110, etcd#14891).

    async def read(self, keys: Iterable[str]) -> tuple[KeyValue, ...]:
        """Those of `keys` that are there.

        Answered by the member in use without asking the others, which costs them nothing.
        """
        found: list[Any] = []
        for key in keys:
            request = rpc.RangeRequest(key=encode(key), serializable=True)
            found += (await self._session.call(_RANGE, request)).kvs
        return _entries(found)

    async def list(self, *prefixes: str, also: str | None = None) -> Listing:
        """All keys that start with one of `prefixes`, and `also`; long listings come in pages.

        Raises:
            RegistryUnavailable: also if history was compacted, or lost, between two pages.
        """
        cluster, revision, found = None, 0, list[Any]()  # 0: as of now
        for start, end in _ranges(prefixes, also):
            request = rpc.RangeRequest(key=start, range_end=end, limit=self._options.page)
            more = True
            while more:
                request.revision = revision
                page = await self._page(request)
                if not revision:
                    cluster, revision = page.header.cluster_id, page.header.revision
                found += page.kvs
                if more := page.more:
                    request.key = page.kvs[-1].key + b"\0"
        self._cluster = cluster
        return Listing(revision, _entries(found))

    async def _page(self, request: Any) -> Any:
        """A part of a listing, at its revision."""
        try:
            return await self._session.call(_RANGE, request)
        except Compacted as error:
            raise RegistryUnavailable(f"the listing went stale under us: {error}") from error

    def watch(
        self, *prefixes: str, after: int, also: str | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[Batch]]:
        """Changes under `prefixes`, and of `also`, as `Store.watch` promises."""
        return self._watches.watching(_ranges(prefixes, also), after, self._cluster)

    async def aclose(self) -> None:
        """Close connections; leases are left to expire. Usable again afterwards."""
        await self._watches.aclose()
        await self._keepalive.aclose()
        await self._session.aclose()
        self._cluster = None


def _entries(found: Iterable[Any]) -> tuple[KeyValue, ...]:
    return tuple(KeyValue(decode(kv.key), kv.value, kv.lease) for kv in found)


def _ranges(prefixes: Iterable[str], also: str | None) -> list[tuple[bytes, bytes]]:
    return [*map(key_range, prefixes), *([] if also is None else [single(also)])]


def _if_held(key: str, lease: int, step: Any) -> Any:
    """`step`, unless the key is under another lease, or not there."""
    held = rpc.Compare(
        key=encode(key), target=rpc.Compare.LEASE, result=rpc.Compare.EQUAL, lease=lease
    )
    return rpc.RequestOp(request_txn=rpc.TxnRequest(compare=[held], success=[step]))
