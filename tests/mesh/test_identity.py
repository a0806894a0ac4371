"""Who answers at an address of the registry: another service, or the next server of the same."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from examples.hello.helloworld_pb2 import HelloRequest
from examples.hello.helloworld_pb2_grpc import GreeterStub
from meshkit import Channel, Mesh, Quiet
from meshkit.events import EndpointForeign, EndpointReady, Event
from tests.client.fakes import until
from tests.mesh.greeters import AT_ONCE, Greeter, greet

pytestmark = pytest.mark.anyio
QUICK = Quiet(at_least=0.2, window=0.1)


async def test_an_address_that_belongs_to_another_service_now(request):
    mesh = Mesh(f"memory://{request.node.name}")
    async with (
        mesh,
        mesh.serve("billing", Greeter("billing"), quiet=AT_ONCE) as other,
        # As a server that died leaves it behind, until its lease ends.
        mesh.register("s", other.address),
        mesh.channel("s") as channel,
    ):
        call = GreeterStub(channel).SayHello(HelloRequest(), timeout=5)
        with pytest.raises(grpc.aio.AioRpcError, match=f"now billing/{other.endpoints[0].id}"):
            await call
        async with mesh.serve("s", Greeter("s"), quiet=AT_ONCE):
            assert await greet(channel) == "s"


async def keep_greeting(channel: Channel) -> None:
    while True:
        await GreeterStub(channel).SayHello(HelloRequest(), timeout=5)


async def test_a_rolling_restart_on_the_same_ports_loses_no_call(request):
    events: list[Event] = []

    def ready() -> list[str]:
        return [event.endpoint.id for event in events if isinstance(event, EndpointReady)]

    mesh = Mesh(f"memory://{request.node.name}", hooks=[events.append])
    async with mesh, mesh.channel("s") as channel:
        running = [mesh.serve("s", Greeter(), quiet=QUICK) for _ in range(2)]
        servers = [await server.__aenter__() for server in running]
        await until(lambda: len(ready()) == 2)
        calls = asyncio.create_task(keep_greeting(channel))
        for old in tuple(servers):
            await running.pop(0).__aexit__(None, None, None)
            running.append(mesh.serve("s", Greeter(), port=old.port, quiet=QUICK))
            servers.append(await running[-1].__aenter__())
            await until(lambda: servers[-1].endpoints[0].id in ready())
        assert not calls.done()  # none has failed
        calls.cancel()
        await asyncio.wait([calls])
        for server in running:
            await server.__aexit__(None, None, None)
    assert sorted(ready()) == sorted(server.endpoints[0].id for server in servers)  # each once
    assert not [event for event in events if isinstance(event, EndpointForeign)]
