"""Tokens that die often, and an etcd that forgets them all: no gap, and no question asked twice.

By hand, for three minutes: `python -m tests.registry.etcd.token_soak`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from unittest.mock import patch

import anyio
import anyio.to_thread

from meshkit import Mesh
from meshkit.registry.etcd.tokens import Tokens
from meshkit.testing.etcd import EtcdProcess
from tests.registry.etcd.rights import READ, READWRITE, enable_auth

SERVER = ("server", "s3cret", READWRITE, "meshkit/default/orders/")
CLIENT = ("client", "hush", READ, "meshkit/default/")


@dataclass
class Report:
    restarts: list[float] = field(default_factory=list)
    asked: dict[str, list[float]] = field(default_factory=dict)  # by user
    views: list[tuple[str, ...]] = field(default_factory=list)
    followed: list[float] = field(default_factory=list)  # seconds from a change to the client

    def needless(self, ttl: float) -> int:
        """Authentications while the token before lived: no restart, and younger than its ttl."""
        return sum(
            later - earlier < ttl and not any(earlier <= at <= later for at in self.restarts)
            for asked in self.asked.values()
            for earlier, later in pairwise(asked)
        )

    def __str__(self) -> str:
        asked = {user: len(times) for user, times in self.asked.items()}
        return (
            f"{len(self.restarts)} restarts, authentications {asked}, "
            f"changes followed within {max(self.followed):.2f} s, "
            f"fewest endpoints seen {min(map(len, self.views))}"
        )


@contextmanager
def counted(report: Report) -> Iterator[None]:
    ask = Tokens._ask

    async def noted(tokens, member):
        refusal = await ask(tokens, member)
        if refusal is None:
            report.asked.setdefault(tokens._username, []).append(time.monotonic())
        return refusal

    with patch.object(Tokens, "_ask", noted):
        yield


async def soak(seconds: float, *, every: float, ttl: int) -> Report:
    """A server and a client, each with its own session; a change after each restart."""
    report = Report()
    flags = ("--auth-token-ttl", str(ttl))
    with EtcdProcess(flags=flags) as etcd, counted(report):
        await enable_auth(etcd.endpoint, SERVER, CLIENT)
        server, client = (
            Mesh(f"etcd://{name}:{password}@{etcd.endpoint}", ttl=6, cache=False)
            for name, password, *_ in (SERVER, CLIENT)
        )
        async with (
            server,
            client,
            server.register("orders", "10.0.0.1:50051"),
            anyio.create_task_group() as group,
        ):
            group.start_soon(watch, client, report)
            while not report.views:
                await anyio.sleep(0.01)
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                await anyio.sleep(every)
                report.restarts.append(time.monotonic())
                await anyio.to_thread.run_sync(etcd.restart)
                await follow_a_change(server, report)
            group.cancel_scope.cancel()
    return report


async def watch(client: Mesh, report: Report) -> None:
    async with client.watch("orders") as sets:
        async for endpoints in sets:
            report.views.append(tuple(endpoint.address for endpoint in endpoints))


async def follow_a_change(server: Mesh, report: Report) -> None:
    """Another endpoint comes; and goes."""
    came = f"10.0.0.2:{50000 + len(report.restarts)}"
    began = time.monotonic()
    async with server.register("orders", came):
        with anyio.fail_after(20):
            while came not in report.views[-1]:
                await anyio.sleep(0.005)
    report.followed.append(time.monotonic() - began)


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--seconds", type=float, default=180.0)
    flags.add_argument("--every", type=float, default=20.0, help="seconds between restarts of etcd")
    flags.add_argument("--ttl", type=int, default=5, help="of a token that is not used, in seconds")
    given = flags.parse_args()
    report = anyio.run(lambda: soak(given.seconds, every=given.every, ttl=given.ttl))
    needless = report.needless(given.ttl)
    print(f"{report}; needless authentications {needless}")
    raise SystemExit(bool(needless or not all(report.views)))


if __name__ == "__main__":
    main()
