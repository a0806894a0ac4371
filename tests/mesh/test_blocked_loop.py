"""A handler that blocks the loop longer than the lease lives, in real time."""

import time

import anyio
import pytest

from examples.hello.helloworld_pb2 import HelloReply
from examples.hello.helloworld_pb2_grpc import GreeterServicer
from meshkit import Mesh, RegistrationState
from tests.mesh.greeters import AT_ONCE, greet

pytestmark = pytest.mark.anyio


class Blocking(GreeterServicer):
    """Blocks the loop for so many milliseconds as it is asked to."""

    async def SayHello(self, request, context):
        if request.name.isdigit():
            time.sleep(int(request.name) / 1000)
        return HelloReply(message="one")


@pytest.mark.parametrize(
    ("registry", "is_lost"), [("memory://blocked", True), ("local://{}/mesh.db", False)]
)
async def test_it_is_told_once_and_announced_again_by_itself(registry, is_lost, tmp_path):
    heard = []
    async with (
        Mesh(registry.format(tmp_path), ttl=1, hooks=[heard.append]) as mesh,
        mesh.serve("s", Blocking(), quiet=AT_ONCE) as server,
        mesh.channel("s") as channel,
    ):
        assert await greet(channel) == "one"
        lease = mesh.status().registry.lease.id
        heard.clear()
        assert await greet(channel, "1800") == "one"
        renewed = {"lease.lost", "endpoint.registered"} if is_lost else set()
        with anyio.fail_after(3):
            while not {"loop.stalled", *renewed} <= {event.name for event in heard}:
                await anyio.sleep(0.02)
        [stall] = [event for event in heard if event.name == "loop.stalled"]
        assert 1.8 - 0.1 <= stall.stalled <= 1.8 + 0.5
        assert stall.renewals_missed >= 5
        assert 1.6 <= mesh.status().loop_lag.worst == stall.stalled
        await anyio.sleep(0.5)
        assert mesh.status().loop_lag.last < 0.3
        assert server.registration.state is RegistrationState.ANNOUNCED
        assert (mesh.status().registry.lease.id != lease) == is_lost
        names = [event.name for event in heard]
        assert names.count("lease.lost") == is_lost, "local:// takes no lease from who lives"
        assert [e.address for e in await mesh.endpoints("s")] == [server.address]
        assert await greet(channel) == "one"
