"""xDS clients of other languages and other ages against our control plane; see also tests/xds."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import anyio
import pytest

from meshkit import Mesh
from meshkit.balancer import POLICIES
from meshkit.testing import free_ports
from meshkit.xds import ControlPlaneAddress
from meshkit.xds.status import fetch_status
from tests.interop.build import BUILD, alone
from tests.xds.grpc_client import PYTHON, grpc_client
from tests.xds.test_trouble import RETRIED, Troubled, control_plane, ejects_who_fails, serving
from tests.xds.world import SERVICE, eventually, world

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.interop,
    pytest.mark.timeout(90, func_only=True),  # not the build
]

OLDEST = "1.54.3"  # of grpcio that works; the core of 1.51.3 crashes on a ring
JAVASCRIPT = Path(__file__).parent / "js"


def grpc_go(request):
    return (str(request.getfixturevalue("programs") / "xds"),)


def grpc_js(request):
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("there is no Node.js here")
    folder = BUILD / "js"
    wanted, fetched = JAVASCRIPT / "package-lock.json", folder / "fetched"
    with alone():
        folder.mkdir(exist_ok=True)
        for file in JAVASCRIPT.iterdir():
            shutil.copy(file, folder)
        if not fetched.exists() or fetched.read_text() != wanted.read_text():
            _fetch(npm, "ci", "--no-audit", "--no-fund", cwd=folder)
            fetched.write_text(wanted.read_text())
    return node, str(folder / "xds.js")


def oldest_grpcio(request):
    if sys.version_info >= (3, 12):
        pytest.skip(f"grpcio {OLDEST} has no wheels for this Python")
    python = BUILD / "oldest" / "bin" / "python"
    with alone():
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", str(BUILD / "oldest")], check=True)
        _fetch(str(python), "-m", "pip", "install", "--quiet", f"grpcio=={OLDEST}")
    return (str(python), *PYTHON[1:])


def _fetch(*command, cwd=None):
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"cannot be fetched: {done.stderr.strip().splitlines()[-1]}")


CLIENTS = [grpc_go, grpc_js, oldest_grpcio]


@pytest.fixture(scope="module", params=CLIENTS, ids=lambda kind: kind.__name__)
def command(request):
    """How the client is started."""
    return request.param(request)


async def all_accepted(address, resources=4):
    """Return when the only client there is has taken all it was sent."""

    async def clients():
        return (await fetch_status(ControlPlaneAddress(addresses=[address]))).clients

    [found] = await eventually(
        clients, lambda found: [(c.state, len(c.resources) >= resources) for c in found] == [
            ("SYNCED", True)
        ]
    )  # fmt: skip
    return found


async def test_servers_come_and_go_by_weight(command):
    async with world("interop-go") as here:
        await here.serve("a", weight=100)
        async with grpc_client(here.address, command=command) as client:
            assert await client.call(10) == {"a": 10}
            async with here.serving("b", weight=300):
                await eventually(lambda: client.call(5), lambda found: "b" in found)
                found = await client.call(400)
                assert found.keys() == {"a", "b"}
                assert 50 < found["a"] < 150  # 100; five standard deviations
            await eventually(lambda: client.call(5), lambda found: found == {"a": 5})
            await all_accepted(here.address)


async def test_a_call_waits_for_a_service_that_does_not_exist_yet(command):
    answers = []
    async with (
        world("interop-ghost") as here,
        grpc_client(here.address, command=command) as client,
        anyio.create_task_group() as group,
    ):
        [failed] = await client.call()
        assert failed.startswith("UNAVAILABLE")

        async def wait():
            answers.append(await client.wait(20))

        group.start_soon(wait)
        await anyio.sleep(0.2)  # it waits by now, or this test shows less
        await here.serve("late")
        await eventually(lambda: anyio.sleep(0.01), lambda _: answers)
    assert answers[0]["who"] == "late"


async def test_every_policy_is_accepted(command):
    async with world("interop-policies") as here:
        for name in "ab":
            await here.serve(name)
        async with grpc_client(here.address, command=command) as client:
            for name in POLICIES:
                await here.mesh.configs.publish(SERVICE, {"loadBalancingConfig": [{name: {}}]})
                found = await client.call(10)
                assert set(found) <= {"a", "b"}, (name, found)
                await all_accepted(here.address)


async def test_shares_headers_retries_limits_and_outliers(command):
    config = {
        "methodConfig": [RETRIED],
        "circuitBreaker": {"maxRequests": 100},
        "outlierDetection": {"successRateEjection": {}},
        "routes": [
            {
                "match": {"headers": [{"name": "x-canary", "exact": "1"}]},
                "destinations": [{"version": "v2"}],
            },
            {"destinations": [{"version": "v1", "weight": 90}, {"version": "v2", "weight": 10}]},
        ],
    }
    async with world("interop-routes") as here:
        await here.serve("one", version="v1")
        await here.serve("two", version="v2")
        await here.mesh.configs.publish(SERVICE, config)
        async with grpc_client(here.address, command=command) as client:
            assert await client.call(10, x_canary="1") == {"two": 10}
            found = await client.call(400)
            assert found.keys() == {"one", "two"}
            assert 10 < found["two"] < 80  # 40; five standard deviations
            await all_accepted(here.address, 6)
            await here.mesh.configs.withdraw(SERVICE)
            await eventually(lambda: client.call(10, x_canary="1"), lambda found: len(found) == 2)


async def test_who_fails_is_ejected(command):
    detection = {
        "interval": "0.5s",
        "baseEjectionTime": "60s",
        "failurePercentageEjection": {"requestVolume": 3},
    }
    async with (
        world("interop-outlier") as here,
        grpc_client(here.address, command=command) as client,
    ):
        await ejects_who_fails(here, client, detection)
        await all_accepted(here.address)


async def test_a_killed_control_plane_is_missed_by_no_call(command, tmp_path):
    url = f"local://{tmp_path}/registry.db"
    [port] = free_ports(1)
    bind = f"127.0.0.1:{port}"
    found: Counter[str] = Counter()
    async with (
        Mesh(url) as mesh,
        serving(mesh, Troubled("a")),
        grpc_client(bind, command=command) as client,
    ):
        async with control_plane(url, bind):
            await eventually(client.call, lambda found: found == {"a": 1})
        assert await client.call(50) == {"a": 50}
        async with control_plane(url, bind), serving(mesh, Troubled("b")):
            with anyio.fail_after(40):
                while "b" not in found:
                    found.update(await client.call(2))
            assert found.keys() == {"a", "b"}
            await all_accepted(bind)
