"""The control plane as others meet it: its port, its certificates, its health, its status."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import AsyncExitStack

import grpc
import pytest
import trustme
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2
from envoy.service.status.v3 import csds_pb2, csds_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from meshkit import ConfigError, Mesh, RegistryUnavailable
from meshkit.cli.command import Exit
from meshkit.cli.main import main
from meshkit.testing import memory_registry
from meshkit.xds import ControlPlaneAddress, ControlPlaneOptions, TlsFiles, grpc_bootstrap
from meshkit.xds.resources import CLUSTER, LISTENER
from meshkit.xds.status import fetch_status
from tests.client.fakes import until
from tests.mesh.greeters import AT_ONCE, Greeter
from tests.xds.grpc_client import grpc_client
from tests.xds.world import SERVICE, eventually, world

pytestmark = pytest.mark.anyio


async def health(address):
    async with grpc.aio.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        return (await stub.Check(health_pb2.HealthCheckRequest(), timeout=5)).status


async def test_it_is_well_when_it_has_heard_of_the_registry():
    registry = memory_registry("memory://xds-health")
    registry.cut()
    async with Mesh("memory://xds-health") as mesh, mesh.xds("127.0.0.1:0") as plane:
        assert await health(plane.address) == health_pb2.HealthCheckResponse.NOT_SERVING
        registry.heal()
        serving = health_pb2.HealthCheckResponse.SERVING
        await eventually(lambda: health(plane.address), lambda status: status == serving)


async def test_its_status_tells_who_is_there_and_what_they_refused():
    async with world("xds-status") as here, AsyncExitStack() as stack:
        client = await here.client(zone="z1")
        await client.call()
        address = ControlPlaneAddress(addresses=[here.address])
        [found] = (await fetch_status(address)).clients
        assert (found.node, found.zone, found.state) == ("child", "z1", "SYNCED")
        assert found.client.startswith("gRPC C-core")
        assert {each.name for each in found.resources} == {SERVICE}
        assert len(found.resources) == 4

        channel = await stack.enter_async_context(grpc.aio.insecure_channel(here.address))
        ads = ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel)
        call = ads.StreamAggregatedResources()
        request = discovery_pb2.DiscoveryRequest(type_url=CLUSTER, resource_names=["bad"])
        request.node.id = "picky"
        await call.write(request)
        answer = await call.read()
        [waiting] = [each for each in (await fetch_status(address)).clients if each.node == "picky"]
        assert waiting.state == "WAITING"
        request.response_nonce = answer.nonce
        request.error_detail.message = "I do not like it"
        await call.write(request)

        async def refused():
            status = await fetch_status(address)
            return [each for each in status.clients if each.state == "REFUSED"]

        [found] = await eventually(refused, bool)
        assert (found.node, found.errors) == ("picky", ("I do not like it",))
        csds = csds_pb2_grpc.ClientStatusDiscoveryServiceStub(channel)
        asked = csds_pb2.ClientStatusRequest()
        asked.node_matchers.add().node_id.prefix = "pic"
        stream = csds.StreamClientStatus()
        await stream.write(asked)
        assert [each.node.id for each in (await stream.read()).config] == ["picky"]
        asked.node_matchers[0].node_id.exact = "nobody"
        await stream.write(asked)
        assert not (await stream.read()).config
        asked.node_matchers[0].node_id.contains = "unsupported"
        assert not (await csds.FetchClientStatus(asked)).config
        call.cancel()


def command(*words):
    return asyncio.to_thread(main, ["xds", *words])


async def test_status_and_check_at_the_command_line(capsys):
    async with world("xds-cli") as here:
        client = await here.client()
        await client.call()
        server = ("--server", here.address)
        assert await command("check", *server) == Exit.OK
        assert "1 connected, none refused" in capsys.readouterr().out
        assert await command("status", *server) == Exit.OK
        head, line = capsys.readouterr().out.splitlines()
        assert head.split()[:2] == ["NODE", "CLIENT"]
        assert line.split()[0] == "child"
        assert "SYNCED" in line
        assert await command("status", "--resources", *server) == Exit.OK
        assert capsys.readouterr().out.count("ACKED") == 4
        assert await command("status", "-o", "json", *server) == Exit.OK
        document = json.loads(capsys.readouterr().out)
        assert document["clients"][0]["resources"][0]["state"] == "ACKED"

        async with grpc.aio.insecure_channel(here.address) as channel:
            call = ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel).StreamAggregatedResources()
            request = discovery_pb2.DiscoveryRequest(type_url=LISTENER, resource_names=["bad"])
            await call.write(request)
            request.response_nonce = (await call.read()).nonce
            request.error_detail.message = "no"
            await call.write(request)

            async def check():
                return await command("check", *server)

            await eventually(check, lambda code: code == Exit.FAILED)
            call.cancel()
    assert await command("check", *server) == Exit.UNREACHABLE


async def test_served_at_the_command_line(tmp_path):
    url = f"local://{tmp_path}/registry.db"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "meshkit", "xds", "serve", "--registry", url, "--bind", "127.0.0.1:0"),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        line = (await process.stdout.readline()).decode()
        address = line.split()[-1]
        async with (
            Mesh(url) as mesh,
            grpc_client(address) as client,
            mesh.serve(SERVICE, Greeter("a"), quiet=AT_ONCE),
        ):
            assert (await client.wait(20))["who"] == "a"
        process.terminate()
        assert await process.wait() == Exit.OK
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    """Files of a server and a client, and of the CA that signed both."""
    folder, ca = tmp_path_factory.mktemp("pki"), trustme.CA()
    ca.cert_pem.write_to_path(folder / "ca.pem")
    for name in ("server", "client"):
        issued = ca.issue_cert("127.0.0.1", "localhost", common_name=name)
        issued.private_key_pem.write_to_path(folder / f"{name}.key")
        issued.cert_chain_pems[0].write_to_path(folder / f"{name}.pem")
    return folder


def files(pki, name):
    return TlsFiles(cert=f"{pki}/{name}.pem", key=f"{pki}/{name}.key", ca=f"{pki}/ca.pem")


async def test_clients_show_a_certificate(pki):
    tls = files(pki, "server")
    async with Mesh("memory://xds-tls") as mesh, mesh.xds("127.0.0.1:0", tls=tls) as plane:
        known = ControlPlaneAddress(addresses=[plane.address], tls=files(pki, "client"))
        assert (await fetch_status(known)).clients == ()
        async with grpc_client("", bootstrap=grpc_bootstrap(known)) as client:
            await client.call()
            assert set((await client.state()).values()) == {"ACKED"}
        only_ca = TlsFiles(ca=f"{pki}/ca.pem")
        for tls in (only_ca, None):
            with pytest.raises(RegistryUnavailable):
                await fetch_status(ControlPlaneAddress(addresses=[plane.address], tls=tls))


async def test_what_cannot_be_used_is_said(pki, tmp_path, monkeypatch):
    async with Mesh("memory://xds-bad") as mesh, mesh.xds("127.0.0.1:0") as plane:
        with pytest.raises(ConfigError, match="another program has the port"):
            async with mesh.xds(plane.address):
                pass
        with pytest.raises(ConfigError, match="bind must be host:port"):
            async with mesh.xds("nowhere"):
                pass
        missing = TlsFiles(cert=str(tmp_path / "no"), key=str(tmp_path / "no"))
        with pytest.raises(ConfigError, match="cannot be read"):
            async with mesh.xds("127.0.0.1:0", tls=missing):
                pass
        address = ControlPlaneAddress(addresses=["127.0.0.1:1"], tls=missing)
        with pytest.raises(ConfigError, match="cannot be read"):
            await fetch_status(address)
        monkeypatch.setitem(sys.modules, "meshkit.xds.control_plane", None)
        monkeypatch.setitem(sys.modules, "meshkit.xds.status", None)
        with pytest.raises(ConfigError, match="pip install"):
            async with mesh.xds("127.0.0.1:0"):
                pass
        assert await command("status") == Exit.USAGE
    with pytest.raises(ConfigError, match="certificate"):
        ControlPlaneOptions(tls=TlsFiles(ca="ca.pem"))
    with pytest.raises(ConfigError, match="grace"):
        ControlPlaneOptions(grace=-1)


async def test_it_ends_with_its_mesh():
    mesh = Mesh("memory://xds-end")
    async with mesh.xds("127.0.0.1:0") as plane:
        assert str(plane.port) in repr(plane)
        await mesh.aclose()
        await plane.wait_stopped()
        with pytest.raises(grpc.aio.AioRpcError):
            await health(plane.address)


async def test_clients_that_are_killed_leave_nothing(caplog):
    async with world("xds-killed") as here:
        address = ControlPlaneAddress(addresses=[here.address])
        async with grpc_client(here.address) as client:
            await client.call()
            assert len((await fetch_status(address)).clients) == 1
        # killed by now
        await eventually(lambda: fetch_status(address), lambda status: not status.clients)
        await until(lambda: here.mesh.status().registry.watches == {})
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
