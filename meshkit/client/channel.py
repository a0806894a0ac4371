"""The channel that generated stubs are built on: follows a service, balances each call."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Final, NoReturn, final

import anyio
import grpc
import grpc.aio

from meshkit.balancer import Balancer, Counts, Readiness, picker_named
from meshkit.client.explain import explain, rpc_error
from meshkit.client.journey import Journey
from meshkit.client.multicallable import MethodFactory
from meshkit.client.options import ChannelOptions, ChannelStatus, EndpointStatus
from meshkit.client.subchannel import Subchannel
from meshkit.discovery import Resolution, Resolver, Watch
from meshkit.endpoint import Endpoint, EndpointSet
from meshkit.events import ChannelClosed, ChannelOpened, Emit, EndpointFailing, EndpointReady
from meshkit.latest import Latest
from meshkit.tasks import Job, Supervisor

__all__ = ["Channel"]

States: Final = grpc.ChannelConnectivity
_LAST_WORD: Final = 0.05  # seconds


def _refuse() -> NoReturn:
    raise grpc.aio.UsageError("Channel is closed.")


@final
class Channel(MethodFactory):
    """A `grpc.aio.Channel` to all endpoints of one service; each call goes to one of them.

    Follows the registry as long as it is open, holds one connection to each endpoint, and never
    asks the registry anything for a call. A mesh makes it: `await mesh.channel("hello_service")`.

    Attributes:
        service: the service's name.
        pick: the connection for the next call; None while there is none.
        queue: calls that wait for a connection, oldest first.
        now: the loop's clock, in seconds.
    """

    def __init__(
        self,
        service: str,
        resolver: Resolver,
        supervisor: Supervisor,
        options: ChannelOptions,
        emit: Emit,
    ) -> None:
        self.service = service
        self.queue: dict[Journey, None] = {}
        self.now: Callable[[], float] = asyncio.get_running_loop().time
        self._resolver = resolver
        self._supervisor = supervisor
        self._options = options
        self._emit = emit
        rng = random.Random()
        policy = options.policy
        picker = picker_named(policy, rng) if isinstance(policy, str) else policy(rng)
        self._balancer = Balancer(service, make_node=self._connect, picker=picker)
        self._jobs: dict[Subchannel, Job] = {}
        self._retiring: dict[Subchannel, Job] = {}
        self._watch: Watch | None = None
        self._resolution = Resolution()
        self._cause = ""
        self._state = Latest(States.CONNECTING)
        self.pick: Callable[[], Subchannel | None] = self._balancer.pick
        self._following = supervisor.start(f"channel {service}", self._follow, keep=True)
        emit(ChannelOpened(service))

    # ---- endpoints come and go

    async def _follow(self) -> None:
        with self._resolver.watch(self.service) as watch:
            self._watch = watch
            async for resolution in watch.latest.values():
                self._adopt(resolution)

    def _adopt(self, resolution: Resolution) -> None:
        if self.is_closed:  # news that was on its way when the channel was closed
            return
        self._resolution = resolution
        if resolution.endpoints is not None:
            for node in self._balancer.reconcile(resolution.endpoints):
                self._retire(node)
        self._refresh()

    def _connect(self, endpoint: Endpoint) -> Subchannel:
        node = Subchannel(endpoint, self._options.connection)
        self._jobs[node] = self._supervisor.start(
            f"connection {endpoint.address}", node.watch, self._note, keep=True
        )
        return node

    def _retire(self, node: Subchannel) -> None:
        watching = self._retiring[node] = self._jobs.pop(node)
        name = f"retire {node.endpoint.address}"
        self._supervisor.start(name, self._part_with, node, watching, None)

    async def _part_with(self, node: Subchannel, watching: Job, grace: float | None) -> None:
        try:
            await node.close(grace)
            # Core's last word to the watch would come after we said that all is closed, maybe
            # when the loop is. It waits while anybody holds a call of this connection.
            with anyio.move_on_after(_LAST_WORD):
                await watching.ended()
        finally:
            watching.cancel()
            self._retiring.pop(node, None)

    def _note(self, node: Subchannel, readiness: Readiness) -> None:
        """A connection has become something else."""
        if node not in self._jobs:  # no longer ours to pick
            return
        was, node.readiness = node.readiness, readiness
        self._balancer.set_readiness(node, readiness)
        if readiness is Readiness.READY:
            self._emit(EndpointReady(node.endpoint))
        elif was is Readiness.READY:
            self._emit(EndpointFailing(node.endpoint))
        self._refresh()

    def _refresh(self) -> None:
        """Something changed that a waiting call or reader may have waited for."""
        self._state.set(self.get_state())
        for call in list(self.queue):
            call.retry_pick()

    # ---- for calls

    def last_resort(self, wait_for_ready: bool) -> Subchannel | None:
        """When every endpoint is failing: one of them, for a call that would rather fail than wait.

        Core refuses it at once and says why, and the caller learns it.
        """
        if wait_for_ready or not self._jobs:
            return None
        if any(node.readiness is not Readiness.FAILING for node in self._jobs):
            return None
        return next(iter(self._jobs))

    def lost(self, node: Subchannel, details: str) -> None:
        """A call found that `node` has no connection: know it before core tells."""
        self._cause = details
        self._note(node, Readiness.FAILING)

    def verdict(self, wait_for_ready: bool) -> grpc.aio.AioRpcError | None:
        """What a call that found no endpoint has to be told; None if it should wait.

        As in gRPC: it waits while names are being resolved or connections made, and fails when
        there is nothing to wait for, unless it asked to wait for ready.
        """
        endpoints = self._resolution.endpoints
        if wait_for_ready:
            return None
        if endpoints is None:
            return None if self._resolution.trouble is None else self.unavailable()
        return None if self.counts().connecting else self.unavailable()

    def unavailable(self) -> grpc.aio.AioRpcError:
        """The error for a call that cannot be sent to anybody."""
        return rpc_error(grpc.StatusCode.UNAVAILABLE, self._explain())

    def overdue(self) -> grpc.aio.AioRpcError:
        """The error for a call whose deadline passed while it waited for an endpoint."""
        words = f"Deadline Exceeded while waiting. {self._explain()}"
        return rpc_error(grpc.StatusCode.DEADLINE_EXCEEDED, words)

    def _explain(self) -> str:
        return explain(
            self.service, self._resolution, self._watch, counts=self.counts(), cause=self._cause
        )

    # ---- what it is doing

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called, or the process is a forked child."""
        return self.pick != self._balancer.pick

    @property
    def _is_unresolved(self) -> bool:
        return self._resolution.endpoints is None and self._resolution.trouble is None

    def counts(self) -> Counts:
        """How many endpoints are in which state."""
        return self._balancer.counts()

    def endpoints(self) -> EndpointSet | None:
        """The endpoints as last known; None until the registry has answered once."""
        return self._resolution.endpoints

    def status(self) -> ChannelStatus:
        """Everything a person asks when calls do not go where they should."""
        return ChannelStatus(
            service=self.service,
            registry=self._watch.registry if self._watch is not None else "",
            age=self._watch.age() if self._watch is not None else None,
            trouble=self._resolution.trouble,
            state=self.get_state(),
            endpoints=tuple(EndpointStatus.of(node) for node in self._balancer.nodes),
            waiting=len(self.queue),
        )

    def __repr__(self) -> str:
        if self.is_closed:
            return f"<Channel {self.service!r} closed>"
        pending = sum(node.pending for node in self._balancer.nodes)
        return f"<Channel {self.service!r}: {self.counts()} | {pending} in flight>"

    # ---- grpc.aio.Channel

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:  # noqa: ARG002
        """The best state of any endpoint; it always tries to connect, whatever the argument."""
        if self.is_closed:
            return States.SHUTDOWN
        counts = self.counts()
        if counts.ready or counts.draining:
            return States.READY
        if counts.connecting or self._is_unresolved:
            return States.CONNECTING
        return States.TRANSIENT_FAILURE

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Return when the state is another one than `last_observed_state`.

        Raises:
            grpc.aio.UsageError: the channel is closed already.
        """
        if self.is_closed:
            _refuse()
        while self.get_state() is last_observed_state:
            await self._state.changed()

    async def channel_ready(self) -> None:
        """Return when a call can be sent.

        Raises:
            grpc.aio.UsageError: the channel is closed.
        """
        while not self.is_closed and self.get_state() is not States.READY:
            await self._state.changed()
        if self.is_closed:
            _refuse()

    async def warm_up(self) -> None:
        """Return when each first endpoint is connected or failing, or the warm-up time is over."""
        with anyio.move_on_after(self._options.warm_up):
            while self._is_unresolved or self.counts().connecting:
                await self._state.changed()

    def disown(self, refuse: Callable[[], NoReturn]) -> None:
        """In a forked child: the connections are the parent's; each call here meets `refuse`."""
        self.pick = refuse

    async def close(self, grace: float | None = None) -> None:
        """Close all connections; twice is fine.

        Args:
            grace: seconds that running calls have to end; None cuts them. A call that is cut
                ends with CANCELLED.
        """
        if grace is not None and grace < 0:
            raise ValueError(f"grace must be 0 or more, got {grace}")
        if self.is_closed:
            return
        self.pick = _refuse
        self._following.cancel()
        leaving = self._jobs | self._retiring
        self._jobs.clear()
        for call in list(self.queue):
            call.settle(rpc_error(grpc.StatusCode.CANCELLED, "Channel closed."))
        self._state.set(States.SHUTDOWN)
        async with anyio.create_task_group() as closing:
            for node, watching in leaving.items():
                closing.start_soon(self._part_with, node, watching, grace or 0.0)
        self._emit(ChannelClosed(self.service))
