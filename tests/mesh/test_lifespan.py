"""A mesh in the hands of FastAPI, Starlette's test client and aiohttp."""

import asyncio
import importlib
import signal

import anyio
import httpx
import pytest
from aiohttp import ClientSession, web

from meshkit import Mesh
from meshkit.testing.etcd import free_ports
from tests.examples.programs import program
from tests.leftover import no_task_is_left
from tests.mesh.greeters import AT_ONCE, Greeter, greet


@pytest.fixture
def app(monkeypatch, tmp_path):
    monkeypatch.setenv("MESHKIT_REGISTRY", f"local://{tmp_path}/registry.db")
    import tests.mesh.web

    return importlib.reload(tests.mesh.web)


async def ask(app, path="/"):
    transport = httpx.ASGITransport(app.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        return (await client.get(path)).json()


def test_fastapi_opens_and_closes_it_and_may_do_so_again(app):
    async def live():
        before = asyncio.all_tasks()
        assert app.mesh.status() is None
        async with app.app.router.lifespan_context(app.app) as state:
            assert state == {"mesh": app.mesh}
            assert app.mesh.status() is not None
            app.app.state.mesh = app.mesh
            async with app.mesh.register("s", "127.0.0.1:1"):
                assert await ask(app, "/sync") is True
                assert len(await app.mesh.endpoints("s")) == 1
        assert app.mesh.status() is None
        await no_task_is_left(before)

    asyncio.run(live())
    asyncio.run(live())  # as each `with TestClient(app)` does, on a loop of its own


@pytest.mark.anyio
async def test_under_uvicorn(tmp_path):
    registry = f"local://{tmp_path}/registry.db"
    [port] = free_ports(1)
    async with (
        program("uvicorn", "tests.mesh.web:app", "--port", str(port), registry=registry) as server,
        Mesh(registry) as mesh,
        mesh.register("s", "127.0.0.1:1"),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client,
    ):
        with anyio.fail_after(20):
            while (reply := await attempt(client)) is None:
                await anyio.sleep(0.05)
        assert reply.json() == {"same": True, "known": 1}
        assert (await client.get("/sync")).json() is True
        code, errors = await server.ended(signal.SIGTERM)
        assert code == -signal.SIGTERM  # as uvicorn does: once its shutdown is through
        assert "Application shutdown complete" in errors


async def attempt(client):
    try:
        return await client.get("/")
    except httpx.ConnectError:
        return None


@pytest.mark.anyio
async def test_aiohttp_opens_it_in_one_task_and_closes_it_in_another():
    mesh = Mesh("memory://aiohttp")
    before = asyncio.all_tasks()

    async def hello(request):
        return web.Response(text=await greet(await mesh.channel("s")))

    async def serve(app):
        async with mesh.serve("s", Greeter("aiohttp"), quiet=AT_ONCE):
            yield

    app = web.Application()
    app.cleanup_ctx.extend([mesh.cleanup_ctx, serve])
    app.router.add_get("/", hello)
    runner = web.AppRunner(app)
    await asyncio.create_task(runner.setup())
    [port] = free_ports(1)
    await web.TCPSite(runner, "127.0.0.1", port).start()
    async with ClientSession() as session, session.get(f"http://127.0.0.1:{port}/") as reply:
        assert await reply.text() == "aiohttp"
    await asyncio.create_task(runner.cleanup())
    assert mesh.status() is None
    await no_task_is_left(before)
