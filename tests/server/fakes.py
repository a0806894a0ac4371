"""A registrar that writes down what happens to it, and a server made for tests."""

import contextlib

import anyio
import grpc

from meshkit.discovery import RegistrationState
from meshkit.server import Quiet, Server, ServerOptions

QUICK = Quiet(at_least=0.05, window=0.05, at_most=1.0)


class Journal(list):
    """What happened, in order: events by name, and the registrar's words."""

    def __init__(self):
        super().__init__()
        self.events = []

    def emit(self, event):
        self.events.append(event)
        self.append(event.name)

    def event(self, kind):
        [event] = [event for event in self.events if isinstance(event, kind)]
        return event


class FakeRegistration:
    def __init__(self, endpoints, registrar):
        self.endpoints = endpoints
        self.state = RegistrationState.ANNOUNCED
        self._registrar = registrar

    async def withdraw(self):
        self._registrar.journal.append("withdraw")
        await self._registrar.on_withdraw()
        self.state = RegistrationState.WITHDRAWN
        return True


class FakeRegistrar:
    def __init__(
        self,
        journal,
        *,
        peer=None,
        on_register=anyio.lowlevel.checkpoint,
        on_withdraw=anyio.lowlevel.checkpoint,
    ):
        self.journal = journal
        self.peer = peer
        self.on_register = on_register
        self.on_withdraw = on_withdraw

    async def register(self, endpoints, *, timeout, required):
        self.journal.append("register")
        self.asked = {"timeout": timeout, "required": required}
        await self.on_register()
        return FakeRegistration(tuple(endpoints), self)


def a_server(servicer, journal=None, registrar=None, **options):
    """A server that drains quickly unless told otherwise."""
    journal = Journal() if journal is None else journal
    services = servicer if isinstance(servicer, dict) else {"ring": servicer}
    options = ServerOptions(**({"quiet": QUICK, "grace": 2.0} | options))
    return Server(services, registrar or FakeRegistrar(journal), options, journal.emit)


@contextlib.asynccontextmanager
async def dial(server):
    """A plain channel to the address that the server announces."""
    async with grpc.aio.insecure_channel(
        server.address, options=[("grpc.use_local_subchannel_pool", 1)]
    ) as channel:
        yield channel
