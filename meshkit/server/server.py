"""A gRPC server that is part of the mesh: announced when it can serve, gone before it stops."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import TracebackType
from typing import Final, Self, final

import anyio
from grpc import aio

from meshkit.discovery import Registrar, Registration
from meshkit.endpoint import Endpoint
from meshkit.errors import ConfigError, MeshClosedError
from meshkit.events import Emit, ServerStarted
from meshkit.server.address import find_place
from meshkit.server.build import add_reflection, bind, build, calls_of
from meshkit.server.calls import HandlerThreads, Quiet
from meshkit.server.drain import FLUSH, Drain, Parts
from meshkit.server.endpoints import endpoints_of
from meshkit.server.health import Health
from meshkit.server.options import ServerOptions, Site
from meshkit.server.phase import Phase
from meshkit.server.servicer import add_services
from meshkit.server.signals import Signals

__all__ = ["Server"]

_AT_ONCE: Final = Quiet(at_least=0, window=0, at_most=0)
_ECHO: Final = 0.5  # seconds; a signal to a process group is often forwarded by the parent, too


@final
class Server:
    """Serves services on one port and keeps them announced, for the length of its block.

    Entering binds, serves and registers, in this order; leaving drains. If entering fails, all
    of it is undone. Runs once.
    """

    def __init__(
        self,
        services: Mapping[str, object],
        registrar: Registrar,
        options: ServerOptions,
        emit: Emit,
        site: Site | None = None,
    ) -> None:
        """Prepare a server; no I/O.

        Args:
            services: servicers by mesh service name, see `servicer.adders_of`.
            registrar: announces the endpoints.
            options: how to set it up.
            emit: takes the events.
            site: what is known of where it runs.
        """
        if not services:
            raise ConfigError("a server needs at least one service")
        self._services = dict(services)
        self._registrar = registrar
        self._options = options
        self._emit = emit
        self._site = site or Site()
        self._phase = Phase.NEW
        self._health = Health(lambda: self.endpoints)
        self._calls = calls_of(options, self._site.loop_lag, emit)
        self._threads = HandlerThreads(thread_name_prefix="meshkit handler")
        self._signals = Signals(self._signalled)
        self._grpc: aio.Server | None = None
        self._port = 0
        self._endpoints: tuple[Endpoint, ...] = ()
        self._registration: Registration | None = None
        self._asked_at: float | None = None  # when the first signal came
        self._drain: Drain | None = None
        self._draining: asyncio.Task[None] | None = None
        self._leave = asyncio.Event()
        self._stopped = asyncio.Event()

    def __repr__(self) -> str:
        where = f"{', '.join(self._services)} at {self.address or '?'}"
        return f"<Server {where}: {self._phase}{self._calls.limits()}>"

    @property
    def phase(self) -> Phase:
        """Where it is in its life."""
        return self._phase

    @property
    def address(self) -> str:
        """The `host:port` that clients dial; "" before it is bound."""
        return self._endpoints[0].address if self._endpoints else ""

    @property
    def port(self) -> int:
        """The port it listens on; 0 before it is bound."""
        return self._port

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """What is announced, one for each service; none before it is bound."""
        return self._registration.endpoints if self._registration else self._endpoints

    @property
    def registration(self) -> Registration | None:
        """The announcement; None before it was made."""
        return self._registration

    @property
    def in_flight(self) -> int:
        """Calls that have begun and not ended, health checks and reflection aside."""
        return self._calls.in_flight

    @property
    def grpc(self) -> aio.Server:
        """The server of grpc.aio. Do not stop it, and do not wait for its termination.

        Raises:
            RuntimeError: not entered yet.
        """
        if self._grpc is None:
            raise RuntimeError("the server has not been started: use it with `async with`")
        return self._grpc

    def set_serving(self, service: str, *, serving: bool) -> None:
        """Tell health-checking clients how `service` is ("" for the whole server)."""
        self._health.set(service, serving=serving)

    async def __aenter__(self) -> Self:
        """Bind, serve, register.

        Raises:
            ConfigError: a servicer, an address, a port or an option cannot be used.
            RegistryAuthError: the registry refuses us.
            RegistryUnavailable: the registry cannot be reached, and is required.
            MeshClosedError: it has run already.
        """
        if self._phase is not Phase.NEW or self._grpc is not None:
            raise MeshClosedError("a server runs once: make a new one")
        try:
            await self._start()
            self._registration = await self._registrar.register(
                self._endpoints,
                timeout=self._options.register_timeout,
                required=self._options.require_registration,
            )
        except BaseException:
            with anyio.move_on_after(self._options.leave_timeout + 4 * FLUSH, shield=True):
                await self._undo()
            raise
        return self

    async def _start(self) -> None:
        options = self._options
        place = await find_place(
            self._registrar.peer,
            host=options.host,
            advertise=options.advertise,
            environment=self._site.address,
            allow_remote=self._site.allow_remote,
        )
        self._grpc = build(options, self._threads, [self._calls])
        protos = add_services(self._services, self._grpc)
        self._health.add_to(self._grpc)
        if options.reflection:
            add_reflection(self._grpc, protos)
        self._port = bind(self._grpc, place.bind, options)
        address = place.advertise.with_port(self._port)
        self._endpoints = endpoints_of(self._services, address, options)
        await self._grpc.start()
        self._phase = self._phase.to(Phase.SERVING)
        self._health.serve((*self._services, *protos))
        self._emit(ServerStarted(self.address, tuple(self._services)))

    async def _undo(self) -> None:
        if self._phase is not Phase.NEW:
            await self.stop()
            return
        if self._grpc is not None:
            await self._grpc.stop(None)
        self._end()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            with anyio.move_on_after(self._options.longest_drain + 4 * FLUSH, shield=True):
                await self.drain()
        except asyncio.CancelledError:  # once more, during the drain: somebody is in a hurry
            with anyio.move_on_after(4 * FLUSH, shield=True):
                await self.stop()
            raise
        finally:
            self._signals.give_back()

    async def serve_forever(self) -> None:
        """Return on the first SIGTERM or SIGINT, or when a drain begins; the block's end drains.

        Call it first thing in the block: before, SIGTERM ends the process without a drain. Signals
        are taken in the main thread only, where no host (uvicorn, aiohttp) has them, until the
        block has ended. Another one half a second or more after the first stops at once.
        """
        self._signals.take()
        await self._leave.wait()

    async def wait_for_termination(self) -> None:
        """Return when the server has stopped. May be cancelled, unlike grpc.aio's own."""
        await self._stopped.wait()

    async def drain(self) -> None:
        """Leave the mesh, then finish what is here; returns when stopped.

        Health says NOT_SERVING, the registration is withdrawn, calls that still come are served
        until clients have noticed (`quiet`); then new calls are refused and those at work get
        `grace` seconds, after which they end with UNAVAILABLE.

        Callers share one drain, and it goes on if one of them is cancelled.
        """
        options = self._options
        self._begin(options.leave_timeout, options.quiet, options.grace)
        await self._drained()

    async def stop(self) -> None:
        """Leave the registry and end all calls at once; cuts a drain short."""
        self._hurry()
        await self._drained()

    def _hurry(self) -> None:
        if self._drain is not None:
            self._drain.hurry()
        self._begin(self._options.leave_timeout, _AT_ONCE, 0.0)

    def _begin(self, leave_timeout: float, quiet: Quiet, grace: float) -> None:
        """Begin the drain, unless it has begun or there is nothing to drain."""
        if self._phase is not Phase.SERVING:
            return
        self._phase = self._phase.to(Phase.DRAINING)
        self._leave.set()
        parts = Parts(
            address=self.address,
            server=self.grpc,
            calls=self._calls,
            health=self._health,
            registration=self._registration,
            emit=self._emit,
        )
        self._drain = Drain(parts, leave_timeout=leave_timeout, quiet=quiet, grace=grace)
        # A task of its own, as it belongs to all who wait for it; the block's end always does.
        self._draining = asyncio.get_running_loop().create_task(
            self._run(self._drain), name="meshkit drain"
        )

    async def _run(self, drain: Drain) -> None:
        try:
            await drain.run()
        finally:
            self._end()

    def _end(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._phase = self._phase.to(Phase.STOPPED)
        self._stopped.set()

    async def _drained(self) -> None:
        if self._draining is not None:
            await asyncio.wait([self._draining])  # unlike `await task`: leaves it alone
            self._draining.result()

    def _signalled(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._asked_at is None:
            self._asked_at = now
            self._leave.set()
        elif now - self._asked_at >= _ECHO:
            self._hurry()
