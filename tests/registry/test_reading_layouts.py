"""Several layouts read as one, over each kind of store."""

from contextlib import AsyncExitStack, aclosing

import anyio
import pytest

from meshkit.endpoint import Endpoint
from meshkit.registry.layouts import make_layout
from meshkit.registry.registry import Registry
from meshkit.registry.store import Store
from meshkit.tasks import Supervisor

pytestmark = pytest.mark.anyio

PATIENCE = 10.0  # seconds; far more than anything here takes
FOREIGN = ("kratos", "go-zero", "kitex")


def registry(store: Store, supervisor: Supervisor, **layouts: tuple[str, ...]) -> Registry:
    others = {which: list(map(make_layout, names)) for which, names in layouts.items()}
    return Registry(store, make_layout(), emit=print, supervisor=supervisor, **others)


async def test_servers_of_ours_and_of_others_come_and_go(store: Store) -> None:
    """Ours is in all layouts and never seen as anybody but itself."""
    seen: set[str] = set()

    async def until(*ids: str) -> None:
        with anyio.fail_after(PATIENCE):
            while True:
                known = watch.latest.value
                found = {each.id for each in known.endpoints or ()}
                seen.update(found)
                if found == set(ids):
                    return
                await watch.latest.changed()

    async with AsyncExitStack() as stack:
        supervisor = await stack.enter_async_context(aclosing(Supervisor(print)))
        await supervisor.open()
        client = await stack.enter_async_context(
            aclosing(registry(store, supervisor, read=FOREIGN))
        )
        server = registry(store, supervisor, also=FOREIGN)
        with client.watch("hello") as watch:
            theirs = make_layout("go-zero").encode(
                "default", Endpoint(service="hello", id="g", address="10.0.0.6:1")
            )
            await store.put(dict([theirs]), lease=0)
            await until("10.0.0.6:1")
            ours = Endpoint(service="hello", id="a", address="10.0.0.5:1")
            registration = await server.register([ours])
            await until("a", "10.0.0.6:1")
            seen.clear()
            await registration.withdraw()
            await until("10.0.0.6:1")
            assert seen <= {"a", "10.0.0.6:1"}
            await store.delete([theirs[0]])
            await server.aclose()
