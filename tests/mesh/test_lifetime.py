"""When and where a mesh is open, and what is left of it when it is closed."""

import asyncio
import contextlib
import gc
import os
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import anyio
import grpc
import pytest

from examples.hello.helloworld_pb2 import HelloReply, HelloRequest
from examples.hello.helloworld_pb2_grpc import GreeterStub
from meshkit import Mesh, MeshClosedError
from tests.leftover import no_task_is_left
from tests.mesh.greeters import AT_ONCE, Greeter, greet

AT_IMPORT = Mesh("memory://made-at-import")  # no loop runs here


@pytest.fixture(params=["memory", "local", pytest.param("etcd", marks=pytest.mark.etcd)])
def url(request, tmp_path):
    if request.param == "etcd":
        return f"{request.getfixturevalue('etcd').url}/{tmp_path.name}"
    return {"memory": f"memory://{tmp_path}", "local": f"local://{tmp_path}/registry.db"}[
        request.param
    ]


async def everything(mesh):
    """Use all that a mesh has."""
    async with mesh.serve("hello_service", Greeter(), quiet=AT_ONCE):
        async with mesh.channel("hello_service") as channel:
            assert await greet(channel) == "one"
        async with mesh.register("other", "127.0.0.1:1"):
            assert len(await mesh.endpoints("other")) == 1
        async with mesh.watch("hello_service") as sets:
            assert len(await anext(sets)) == 1


def test_the_constructor_does_no_io(tmp_path):
    assert "closed" in repr(AT_IMPORT)
    path = tmp_path / "sub" / "registry.db"
    for url in (f"local://{path}", "etcd://no.such.host.invalid:1", "static:a=h:1"):
        assert Mesh(url).status() is None
        assert "closed" in repr(Mesh(url))
    assert not path.parent.exists()


def test_it_opens_at_its_first_use_and_again_on_other_loops(url):
    opened = []
    mesh = Mesh(url, hooks=[lambda e: opened.append(e) if e.name == "config.resolved" else None])

    async def use():
        assert mesh.status() is None
        await mesh.endpoints("x")
        assert "open" in repr(mesh)
        await everything(mesh)
        await mesh.aclose()
        await mesh.aclose()
        assert mesh.status() is None
        async with mesh:
            await everything(mesh)

    asyncio.run(use())
    asyncio.run(use())
    assert len(opened) == 4


def test_a_loop_that_died_without_closing(tmp_path):
    mesh = Mesh(f"local://{tmp_path}/registry.db")

    async def use(seen=None):
        channel = await mesh.channel("x", warm_up=0)
        assert channel is not seen
        return channel

    first = asyncio.run(use())
    assert mesh.status() is None
    assert "closed" in repr(mesh)
    asyncio.run(use(seen=first))
    asyncio.run(mesh.aclose())  # nothing to close: its loop is gone


def test_used_from_a_second_loop_while_open():
    mesh = Mesh("memory://second-loop")

    async def main():
        async with mesh:
            await mesh.channel("x", warm_up=0)
            with ThreadPoolExecutor(1) as pool:
                for use in (mesh.aclose, mesh.__aenter__, lambda: mesh.endpoints("x")):
                    failed = pool.submit(asyncio.run, call(use)).exception()
                    assert isinstance(failed, MeshClosedError)
                    assert "another event loop" in str(failed)
                status = pool.submit(mesh.status).result()  # a thread without a loop may ask
            assert [channel.service for channel in status.channels] == ["x"]
            assert len(await mesh.endpoints("x")) == 0

    async def call(function):
        await function()

    asyncio.run(main())


@pytest.mark.anyio
async def test_opened_in_one_task_and_closed_in_another(url):
    mesh = Mesh(url)
    await asyncio.create_task(mesh.__aenter__())
    await asyncio.create_task(everything(mesh))
    await asyncio.create_task(mesh.aclose())
    assert mesh.status() is None


def things():
    """Tasks, threads and descriptors of this process."""
    gc.collect()
    links = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            links.append(str(descriptor.readlink()))
    threads = {t.name for t in threading.enumerate() if "meshkit" in t.name.lower()}
    return asyncio.all_tasks(), threads, sorted(links)


@pytest.mark.anyio
async def test_nothing_is_left_when_it_is_closed(url):
    async with Mesh(url) as warm:  # what gRPC keeps for the process stays
        await everything(warm)
    await anyio.sleep(0.05)
    tasks, threads, links = things()
    mesh = Mesh(url)
    await mesh.channel("hello_service", warm_up=0)
    await mesh.channel("nobody", warm_up=0)
    await everything(mesh)
    registering = mesh.register("left-open", "127.0.0.1:1")
    await registering.__aenter__()
    watching = mesh.watch("hello_service")
    await watching.__aenter__()
    assert len(asyncio.all_tasks()) > len(tasks)
    await mesh.aclose()
    await no_task_is_left(tasks)
    await registering.__aexit__(None, None, None)
    await watching.__aexit__(None, None, None)
    with anyio.fail_after(5):  # core closes its sockets in threads of its own, the first ones, too
        while Counter(things()[2]) - Counter(links) or things()[1] - threads:
            await anyio.sleep(0.02)
    async with Mesh(url) as other:
        assert len(await other.endpoints("left-open")) == 0


# ---- closing


@pytest.mark.anyio
async def test_servers_drain_when_the_mesh_closes_and_their_handlers_may_still_call():
    order = []
    mesh = Mesh("memory://drain", hooks=[lambda event: order.append(event.name)])
    third = Mesh("memory://drain")

    class Front(Greeter):
        async def SayHello(self, request, context):
            self.began.set()
            await asyncio.sleep(0.1)
            return HelloReply(message=f"through {await greet(await mesh.channel('back'))}")

    front = Front()
    serving = mesh.serve("front", front, quiet=AT_ONCE, grace=5)
    async with third, third.serve("back", Greeter("back"), quiet=AT_ONCE):
        await serving.__aenter__()
        calling = asyncio.create_task(greet(await mesh.channel("front")))
        await front.began.wait()
        await mesh.aclose()
        assert await calling == "through back"
    drained, closed = order.index("server.drained"), order.index("channel.closed")
    assert drained < closed
    await serving.__aexit__(None, None, None)


@pytest.mark.anyio
async def test_while_it_closes_nothing_new_is_served_and_afterwards_it_opens_again():
    mesh, greeter = Mesh("memory://closing"), Greeter()
    serving = mesh.serve("s", greeter, quiet=AT_ONCE, grace=5)
    await serving.__aenter__()
    calling = asyncio.create_task(greet(await mesh.channel("s"), "1"))
    await greeter.began.wait()
    first, second = asyncio.create_task(mesh.aclose()), asyncio.create_task(mesh.aclose())
    await anyio.sleep(0.05)
    for late in (mesh.serve("t", Greeter()), mesh.register("t", "127.0.0.1:1")):
        with pytest.raises(MeshClosedError, match="being closed"):
            await late.__aenter__()
    assert not first.done()
    assert not second.done()
    assert await calling == "one"
    await first
    await second
    await serving.__aexit__(None, None, None)
    async with mesh:
        assert len(await mesh.endpoints("s")) == 0


@pytest.mark.anyio
async def test_a_closing_that_is_cancelled_is_quick_and_complete():
    mesh, greeter = Mesh("memory://hurry"), Greeter()
    before = asyncio.all_tasks()
    serving = mesh.serve("s", greeter, quiet=AT_ONCE, grace=30)
    await serving.__aenter__()

    async def end_of_call(channel):  # by its code: an error would hold the call, and that its loop
        return await GreeterStub(channel).SayHello(HelloRequest(name="30"), timeout=40).code()

    calling = asyncio.create_task(end_of_call(await mesh.channel("s")))
    await greeter.began.wait()
    closing = asyncio.create_task(mesh.aclose())
    await anyio.sleep(0.05)
    closing.cancel()
    done, _ = await asyncio.wait([closing], timeout=4)
    assert done
    assert closing.cancelled()
    assert await calling is grpc.StatusCode.UNAVAILABLE
    await no_task_is_left(before)
    assert mesh.status() is None
    await serving.__aexit__(None, None, None)


@pytest.mark.anyio
async def test_a_block_in_a_cancelled_scope_closes_as_well():
    before = asyncio.all_tasks()
    mesh = Mesh("memory://scope")
    with anyio.move_on_after(0.05):
        async with mesh, mesh.register("s", "127.0.0.1:1"), mesh.channel("s", warm_up=0):
            await anyio.sleep_forever()
    assert mesh.status() is None
    with anyio.CancelScope() as scope:
        scope.cancel()
        async with mesh:
            raise AssertionError("it was cancelled")
    assert mesh.status() is None
    await no_task_is_left(before)
    assert len(await Mesh("memory://scope").endpoints("s")) == 0


@pytest.mark.anyio
async def test_readers_of_a_watch_are_told():
    mesh = Mesh("memory://readers")

    async def read():
        async with mesh.watch("s") as sets:
            async for _ in sets:
                pass

    readers = [asyncio.create_task(read()) for _ in range(3)]
    await anyio.wait_all_tasks_blocked()
    readers.pop().cancel()
    await mesh.aclose()
    with anyio.fail_after(1):
        await asyncio.wait(readers)
    for reader in readers:
        with pytest.raises(MeshClosedError, match="was closed while"):
            await reader


# ---- fork

FORK = """
import asyncio, os, sys
from meshkit import Mesh, MeshClosedError
from tests.mesh.greeters import AT_ONCE, Greeter, greet

async def child(mesh, channel):
    async def close():
        await mesh.aclose()  # as the end of a block does: silent, and it frees nothing
        await mesh.endpoints("s")
    for use in (lambda: greet(channel), lambda: mesh.channel("s"), mesh.__aenter__, close):
        try:
            await use()
        except MeshClosedError as error:
            assert "after the fork" in str(error), error
        else:
            return 1
    return 0 if mesh.status() is None else 2

async def main():
    async with Mesh("memory://fork") as mesh, mesh.serve("s", Greeter(), quiet=AT_ONCE):
        channel = await mesh.channel("s")
        assert await greet(channel) == "one"
        pid = os.fork()
        if not pid:
            code = 9
            try:
                code = asyncio.run(child(mesh, channel))
            finally:
                os._exit(code)
        status = (await asyncio.to_thread(os.waitpid, pid, 0))[1]
        assert await greet(channel) == "one"  # the parent is well
        assert len(await mesh.endpoints("s")) == 1
        return os.waitstatus_to_exitcode(status)

sys.exit(asyncio.run(main()))
"""


def test_a_forked_child_is_told_what_to_do_and_its_parent_is_well():
    # With its fork support, as it is by default, gRPC starts its threads again in the child, where
    # they crash it now and then (grpc#41768), whatever the child does.
    environ = os.environ | {"GRPC_ENABLE_FORK_SUPPORT": "0"}
    command = [sys.executable, "-c", FORK]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=30, check=False, env=environ
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "Error" not in done.stderr
