"""The channel that generated stubs are built on: follows a service, balances each call."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn, final

import anyio
import grpc
import grpc.aio

from meshkit.balancer import Counts
from meshkit.client.dispatch import Dispatch
from meshkit.client.multicallable import MethodFactory
from meshkit.client.options import ChannelOptions, ChannelStatus, EndpointStatus
from meshkit.discovery import Resolver
from meshkit.endpoint import EndpointSet
from meshkit.events import ChannelClosed, ChannelOpened, Emit
from meshkit.tasks import Supervisor

__all__ = ["Channel"]


def _refuse() -> NoReturn:
    raise grpc.aio.UsageError("Channel is closed.")


@final
class Channel(MethodFactory):
    """A `grpc.aio.Channel` to all endpoints of one service; each call goes to one of them.

    Follows the registry as long as it is open, holds one connection to each endpoint, and never
    asks the registry anything for a call. A mesh makes it: `await mesh.channel("hello_service")`.

    Attributes:
        service: the service's name.
    """

    def __init__(
        self,
        service: str,
        resolver: Resolver,
        supervisor: Supervisor,
        options: ChannelOptions,
        emit: Emit,
    ) -> None:
        super().__init__(Dispatch(service, supervisor, options, emit))
        self.service = service
        self._resolver = resolver
        self._emit = emit
        self._following = supervisor.start(f"channel {service}", self._follow, keep=True)
        emit(ChannelOpened(service))

    async def _follow(self) -> None:
        with self._resolver.watch(self.service) as watch:
            self._dispatch.watch = watch
            async for resolution in watch.latest.values():
                self._dispatch.adopt(resolution)

    # ---- what it is doing

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called, or the process is a forked child."""
        return self._dispatch.is_closed

    def counts(self) -> Counts:
        """How many endpoints are in which state."""
        return self._dispatch.balancer.counts()

    def endpoints(self) -> EndpointSet | None:
        """The endpoints as last known; None until the registry has answered once."""
        return self._dispatch.resolution.endpoints

    def status(self) -> ChannelStatus:
        """Everything a person asks when calls do not go where they should."""
        watch, balancer = self._dispatch.watch, self._dispatch.balancer
        return ChannelStatus(
            service=self.service,
            registry=watch.registry if watch is not None else "",
            age=watch.age() if watch is not None else None,
            trouble=self._dispatch.resolution.trouble,
            state=self.get_state(),
            endpoints=tuple(EndpointStatus.of(node, balancer) for node in balancer.nodes),
            known=len(self._dispatch.router.selection.known),
            zones=self._dispatch.router.selection.zone_shares(),
            destinations=self._dispatch.router.destinations(),
            waiting=len(self._dispatch.queue),
            resting=len(self._dispatch.resting),
            unbounded=self._dispatch.unbounded,
            service_config=self._dispatch.configuration.config,
            config_sources=self._dispatch.configuration.sources,
        )

    def __repr__(self) -> str:
        if self.is_closed:
            return f"<Channel {self.service!r} closed>"
        if self._dispatch.idleness.is_idle:
            return f"<Channel {self.service!r}: idle>"
        pending = self._dispatch.balancer.in_flight.pending
        known, ours = len(self._dispatch.router.selection.known), len(self._dispatch.balancer.nodes)
        subset = f" of {known}" if known > ours else ""
        return f"<Channel {self.service!r}: {self.counts()}{subset} | {pending} in flight>"

    # ---- grpc.aio.Channel

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """The best state of any endpoint.

        Args:
            try_to_connect: if it is idle, connect. Otherwise it always tries to be connected.
        """
        if try_to_connect and not self.is_closed:
            self._dispatch.idleness.wake()
        return self._dispatch.connectivity()

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Return when the state is another one than `last_observed_state`.

        Raises:
            grpc.aio.UsageError: the channel is closed already.
        """
        if self.is_closed:
            _refuse()
        while self.get_state() is last_observed_state:
            await self._dispatch.state.changed()

    async def channel_ready(self) -> None:
        """Return when a call can be sent.

        Raises:
            grpc.aio.UsageError: the channel is closed.
        """
        while not self.is_closed and self.get_state(True) is not grpc.ChannelConnectivity.READY:
            await self._dispatch.state.changed()
        if self.is_closed:
            _refuse()

    async def warm_up(self, seconds: float) -> None:
        """Return when each first endpoint is connected or failing, or `seconds` are over.

        So the first calls do not all run to whoever was connected first. At once if the channel
        is to connect when it is used.
        """
        with anyio.move_on_after(seconds):
            while not self._dispatch.is_settled:
                await self._dispatch.state.changed()

    def disown(self, refuse: Callable[[], NoReturn]) -> None:
        """In a forked child: the connections are the parent's; each call here meets `refuse`."""
        self._dispatch.refuse(refuse)

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
        self._dispatch.refuse(_refuse)
        self._following.cancel()
        await self._dispatch.close(grace or 0.0)
        self._emit(ChannelClosed(self.service))
