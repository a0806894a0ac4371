"""Where calls go: the connections of one channel, and the calls that wait for one.

Everything that calls ask is synchronous; what a change means for those that wait is decided at
once, so no call is forgotten between two looks.
"""

from __future__ import annotations

import asyncio
import random
import weakref
from collections.abc import Callable
from typing import Final, NoReturn, final

import grpc
import grpc.aio

from meshkit.balancer import FAULTS, Counts, Readiness
from meshkit.client.clock import clock_of, forever
from meshkit.client.configuration import Configuration
from meshkit.client.connections import Connections
from meshkit.client.explain import explain, rpc_error
from meshkit.client.idleness import Idleness
from meshkit.client.journey import Journey
from meshkit.client.options import ChannelOptions
from meshkit.client.outcomes import event_of
from meshkit.client.plan import Plans
from meshkit.client.router import Router
from meshkit.client.subchannel import TURNED_AWAY, Subchannel
from meshkit.deadline import time_remaining
from meshkit.discovery import Resolution, Watch
from meshkit.endpoint import Endpoint, EndpointSet
from meshkit.events import (
    Emit,
    EndpointFailing,
    EndpointForeign,
    EndpointReady,
)
from meshkit.latest import Latest
from meshkit.service_config import ServiceConfig
from meshkit.tasks import Supervisor

__all__ = ["Dispatch"]

States: Final = grpc.ChannelConnectivity


@final
class Dispatch:
    """Gives each call a connection, or a place in the queue, or the reason why not.

    Attributes:
        router: which of the connections there are for a call.
        balancer: the connections, and which of them may be picked.
        pick: the connection for a call; None while there is none. Raises when closed.
        pick_other: the same for another attempt of a call; elsewhere, if that is possible.
        queue: calls that wait for a connection, oldest first.
        resting: calls that wait before they are tried again.
        unbounded: how many calls had no deadline.
        is_closed: whether calls are refused.
        plans: how calls are made, by method.
        resolution: what is known of the service.
        configuration: what holds for the calls.
        idleness: whether there are connections at all.
        watch: where that comes from; None before anybody was asked.
        reads_reports: whether the policy wants to know what servers say of their load.
        state: set whenever something changed that somebody may wait for.
        now: the loop's clock, in seconds.
        time_remaining: what a call inherits, at most, from the call that is being served.
    """

    def __init__(
        self, service: str, supervisor: Supervisor, options: ChannelOptions, emit: Emit
    ) -> None:
        self.queue: dict[Journey, None] = {}
        self.resting: weakref.WeakSet[Journey] = weakref.WeakSet()
        self.unbounded = 0
        self.is_closed = False
        self.now = clock_of(asyncio.get_running_loop())
        self.time_remaining = time_remaining if options.propagate_deadline else forever
        self._service = service
        self._emit = emit
        self.configuration = Configuration(options)
        self._rng = random.Random()
        self.router = Router(
            service, self.configuration, options.zone, self._connect, self._rng, self.now
        )
        self.balancer = self.router.balancer
        self._configured()
        self._alarm: asyncio.TimerHandle | None = None
        self.plans = Plans(self.configuration.config, options.retry_limits, self._rng, self.now())
        self.start = supervisor.start  # a task beside the calls
        self.resolution = Resolution()
        self.watch: Watch | None = None
        self.state = Latest(States.CONNECTING)
        self.idleness = Idleness(
            options.idle_timeout, activity=self._activity, changed=self._reconcile
        )
        self._connections = Connections(
            supervisor, self.configuration.connection, changed=self._note, met=self._meet
        )
        self._cause = ""

    # ---- endpoints come and go

    def adopt(self, resolution: Resolution) -> None:
        """Take what is known of the service now."""
        if self.is_closed:  # news that was on its way when the channel was closed
            return
        self.resolution = resolution
        if resolution.config != self.configuration.published:
            self._configure(resolution.config)
        self._reconcile()

    def _reconcile(self) -> None:
        """Have a connection to each endpoint that is wanted; to none while idle."""
        known = self.resolution.endpoints
        if known is not None:
            is_idle = self.idleness.is_idle
            wanted = EndpointSet(self._service) if is_idle else self.router.selection.of(known)
            for node in self.balancer.reconcile(wanted):
                self._connections.retire(node)
        self._refresh()

    def _activity(self) -> int | None:
        """How many calls were put on connections; None while there is any call."""
        if self.queue or self.resting or self.balancer.in_flight.pending:
            return None
        return sum(node.started for node in self.balancer.nodes)

    def _configure(self, published: ServiceConfig | None) -> None:
        """Take the service config that the registry has now; calls under way keep what they had."""
        known = self.configuration
        known.adopt(published)
        self.plans.adopt(known.config)
        self.router.configure()
        self._configured()
        self._connections.options = known.connection

    def _configured(self) -> None:
        """Let calls go as the router has them go now."""
        self.pick: Callable[[Journey], Subchannel | None] = self.router.pick
        self.pick_other = self.router.pick_other
        self.reads_reports = self.configuration.reads_reports
        # Where calls may wait for the end of others, be told of each end; else save that.
        is_on = self.configuration.resilience.circuit_breaker.is_on
        self.balancer.in_flight.freed = self._serve_next if is_on else None

    def _connect(self, endpoint: Endpoint) -> Subchannel:
        return self._connections.make(endpoint, self.balancer.in_flight)

    def _note(self, node: Subchannel, readiness: Readiness) -> None:
        """A connection has become something else."""
        if node not in self._connections:  # no longer ours to pick
            return
        was, node.readiness = node.readiness, readiness
        self.balancer.set_readiness(node, readiness)
        if readiness is Readiness.READY:
            self._emit(EndpointReady(node.endpoint))
        elif was is Readiness.READY:
            self._emit(EndpointFailing(node.endpoint))
        self._refresh()

    def _meet(self, node: Subchannel, stranger: str) -> None:
        """Somebody else answers at the address of a connection."""
        if node in self._connections:
            self._cause = stranger
            self._emit(EndpointForeign(node.endpoint, stranger))

    def _refresh(self) -> None:
        """Something changed that a waiting call or reader may have waited for."""
        self.state.set(self.connectivity())
        for call in list(self.queue):
            call.retry_pick()
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if (at := self.balancer.next_try) is not None:
            self._alarm = asyncio.get_running_loop().call_at(at, self._refresh)

    def _serve_next(self) -> None:
        """A call has ended: the one that waits longest may have been waiting for that."""
        for call in self.queue:
            call.retry_pick()
            return

    # ---- for calls

    def hear(self, node: Subchannel, code: grpc.StatusCode, sent_at: float) -> None:
        """A call has ended, with an error or on a suspect: learn from it."""
        if code.name in FAULTS:
            node.fail()
        if outcomes := self.balancer.hear(node, code.name, sent_at):
            for outcome in outcomes:
                self._emit(event_of(outcome))
            self._refresh()

    def last_resort(self, call: Journey) -> Subchannel | None:
        """When every endpoint is failing: one of them, for a call that would rather fail than wait.

        Core refuses it at once and says why, and the caller learns it. Not one that is connected,
        to somebody else or not known yet to whom: that would send it.
        """
        if call.wait_for_ready:
            return None
        takes = self.router.group_of(call).selector.takes
        nodes = [node for node in self._connections if takes(node.endpoint)]
        if any(node.readiness is not Readiness.FAILING for node in nodes):
            return None
        return next((node for node in nodes if not node.is_connected), None)

    def lost(self, node: Subchannel, details: str) -> None:
        """A call found that `node` has no connection: know it before core tells."""
        self._cause = details
        if not node.is_connected:
            is_made_again = details.startswith(TURNED_AWAY)
            self._note(node, Readiness.CONNECTING if is_made_again else Readiness.FAILING)

    def verdict(self, call: Journey) -> grpc.aio.AioRpcError | None:
        """What a call that found no endpoint has to be told; None if it should wait.

        As in gRPC: it waits while names are being resolved or connections made, and fails when
        there is nothing to wait for, unless it asked to wait for ready.
        """
        self.idleness.wake()
        if call.wait_for_ready:
            return None
        group = self.router.group_of(call)
        if refusal := group.refusal():
            words = f"meshkit: no more calls to {self._service!r} from here: {refusal}."
            return rpc_error(grpc.StatusCode.UNAVAILABLE, words)
        if self.resolution.endpoints is None:
            return None if self.resolution.trouble is None else self.unavailable(call)
        return None if group.counts().connecting else self.unavailable(call)

    def unavailable(self, call: Journey) -> grpc.aio.AioRpcError:
        """The error for a call that cannot be sent to anybody."""
        return rpc_error(grpc.StatusCode.UNAVAILABLE, self._explain(call))

    def overdue(self, call: Journey) -> grpc.aio.AioRpcError:
        """The error for a call whose deadline passed while it waited for an endpoint."""
        words = f"Deadline Exceeded while waiting. {self._explain(call)}"
        return rpc_error(grpc.StatusCode.DEADLINE_EXCEEDED, words)

    def _explain(self, call: Journey) -> str:
        group = self.router.group_of(call)
        return explain(
            self._service,
            self.resolution,
            self.watch,
            selector=group.selector,
            counts=group.counts(),
            cause=self._cause,
        )

    # ---- for the channel

    @property
    def is_settled(self) -> bool:
        """Whether each endpoint is known to be connected or failing, or none has to be."""
        if self.idleness.is_idle:
            return True
        known = self.resolution.endpoints is not None or self.resolution.trouble is not None
        return known and not self.balancer.counts().connecting

    def connectivity(self) -> grpc.ChannelConnectivity:
        """The best state of any endpoint."""
        if self.is_closed:
            return States.SHUTDOWN
        if self.idleness.is_idle:
            return States.IDLE
        counts: Counts = self.balancer.counts()
        if counts.ready or counts.draining:
            return States.READY
        return States.TRANSIENT_FAILURE if self.is_settled else States.CONNECTING

    def refuse(self, say: Callable[[], NoReturn]) -> None:
        """From now on each call meets `say`, which raises."""
        self.is_closed = True
        self.pick = lambda _: say()
        self.idleness.stop()

    async def close(self, grace: float) -> None:
        """End the calls that wait, give running ones `grace` seconds, close all connections."""
        leaving = self._connections.release()
        if self._alarm is not None:
            self._alarm.cancel()
        for call in [*self.queue, *self.resting]:
            call.settle(rpc_error(grpc.StatusCode.CANCELLED, "Channel closed."))
        self.state.set(States.SHUTDOWN)
        await self._connections.close(leaving, grace)
