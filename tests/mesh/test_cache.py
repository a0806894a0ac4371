"""A client that is started while etcd is down calls the servers that an earlier one knew."""

import anyio
import grpc
import pytest

from examples.hello.helloworld_pb2 import HelloRequest
from examples.hello.helloworld_pb2_grpc import GreeterStub
from meshkit import Mesh
from meshkit.testing.etcd import EtcdProcess, find_etcd
from tests.mesh.greeters import AT_ONCE, Greeter, greet

pytestmark = [pytest.mark.anyio, pytest.mark.etcd]


async def test_started_while_etcd_is_down(tmp_path):
    if find_etcd() is None:
        pytest.skip("no etcd here")
    heard = []
    with EtcdProcess() as etcd:
        async with Mesh(etcd.url, ttl=5) as serving, serving.serve("s", Greeter(), quiet=AT_ONCE):
            async with Mesh(etcd.url, cache=tmp_path) as earlier:
                assert await greet(await earlier.channel("s")) == "one"
            etcd.kill()
            client = Mesh(etcd.url, cache=tmp_path, hooks=[heard.append])
            async with client, client.channel("s") as channel:
                assert await greet(channel) == "one"
                assert [e.total for e in heard if e.name == "endpoints.from_cache"] == [1]
                watch = client.status().registry.watches["s"]
                assert watch.from_cache
                assert 0 < watch.age < 30
                etcd.restart()
                with anyio.fail_after(10):
                    while client.status().registry.watches["s"].from_cache:
                        await anyio.sleep(0.05)
                assert await greet(channel) == "one"


async def test_the_error_says_how_old_it_is(tmp_path):
    if find_etcd() is None:
        pytest.skip("no etcd here")
    with EtcdProcess() as etcd:
        async with Mesh(etcd.url) as serving, serving.register("s", "127.0.0.1:1"):
            async with Mesh(etcd.url, cache=tmp_path) as earlier:
                await earlier.channel("s")
            etcd.kill()
            async with Mesh(etcd.url, cache=tmp_path) as mesh, mesh.channel("s") as channel:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await GreeterStub(channel).SayHello(HelloRequest(), timeout=5)
    assert ", from cache, " in caught.value.details()
    assert "1 known: 1 failing" in caught.value.details()
