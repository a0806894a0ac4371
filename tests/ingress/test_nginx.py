"""nginx with the configuration of examples/proxies, as it stands but for its ports."""

from __future__ import annotations

import grpc
import pytest

from meshkit import Mesh
from meshkit.testing import free_ports
from tests.ingress.proxies import CONFIGURATIONS, binary, running, seconds_until
from tests.mesh.greeters import AT_ONCE, Greeter

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]


async def test_nginx_follows_the_registry(mesh_url, tmp_path):
    nginx = binary("nginx")
    listen, behind = free_ports(2)
    file = tmp_path / "nginx.conf"
    async with Mesh(mesh_url) as mesh, mesh.dns() as responder:
        text = (CONFIGURATIONS / "nginx.conf").read_text()
        for fixed, ours in {
            "15353": str(responder.port),
            "8080": str(listen),
            "50001": str(behind),
            "/tmp/meshkit-nginx.pid": str(tmp_path / "pid"),
        }.items():
            assert fixed in text
            text = text.replace(fixed, ours)
        file.write_text(text)

        def serve(name, host):
            greeter = Greeter(name)
            return mesh.serve("hello_service", greeter, quiet=AT_ONCE, host=host, port=behind)

        options = [("grpc.max_reconnect_backoff_ms", 100)]
        alone = "master_process off;"  # nothing is left, however this test ends
        with running(nginx, "-c", str(file), "-e", "stderr", "-g", alone):
            async with (
                grpc.aio.insecure_channel(f"127.0.0.1:{listen}", options) as channel,
                serve("one", "127.0.0.1"),
            ):
                await seconds_until(channel, "one")
                async with serve("two", "127.0.0.2"):
                    assert await seconds_until(channel, "two") < 5.0  # it asks every second
                assert await seconds_until(channel, "one") < 5.0
