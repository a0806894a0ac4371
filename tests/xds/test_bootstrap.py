"""What clients are started with."""

from __future__ import annotations

import json

import pytest

from meshkit.errors import ConfigError
from meshkit.xds import (
    ControlPlaneAddress,
    EnvoyNode,
    EnvoyScope,
    Port,
    TlsFiles,
    envoy_bootstrap,
    grpc_bootstrap,
)

HERE = ControlPlaneAddress(addresses=["127.0.0.1:18000"])
TLS = TlsFiles(cert="c.pem", key="k.pem", ca="ca.pem")


def test_of_grpc() -> None:
    assert grpc_bootstrap(HERE, node="n") == {
        "xds_servers": [
            {
                "server_uri": "127.0.0.1:18000",
                "channel_creds": [{"type": "insecure"}],
                "server_features": ["xds_v3"],
            }
        ],
        "node": {"id": "n", "cluster": "meshkit", "locality": {}},
    }


def test_tls_of_grpc() -> None:
    secure = ControlPlaneAddress(addresses=["cp:1"], tls=TLS)
    [server] = grpc_bootstrap(secure)["xds_servers"]
    files = {
        "ca_certificate_file": "ca.pem",
        "certificate_file": "c.pem",
        "private_key_file": "k.pem",
    }
    assert server["channel_creds"] == [{"type": "tls", "config": files}]


def test_a_control_plane_by_name_is_resolved_by_envoy() -> None:
    def kind(*addresses: str) -> str:
        document = envoy_bootstrap(ControlPlaneAddress(addresses=addresses), EnvoyNode())
        return document["static_resources"]["clusters"][0]["type"]

    assert kind("10.0.0.1:1", "[::1]:2") == "STATIC"
    assert kind("10.0.0.1:1", "cp.mesh:2") == "STRICT_DNS"


def test_tls_of_envoy_checks_the_name() -> None:
    secure = ControlPlaneAddress(addresses=["cp.mesh:1"], tls=TLS)
    [cluster] = envoy_bootstrap(secure, EnvoyNode())["static_resources"]["clusters"]
    context = cluster["transport_socket"]["typed_config"]
    assert context["sni"] == "cp.mesh"
    assert context["common_tls_context"]["validation_context"] == {
        "trusted_ca": {"filename": "ca.pem"},
        "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": "cp.mesh"}}],
    }


@pytest.mark.parametrize("addresses", [[], ["nowhere"], ["a:1", "b"]])
def test_no_address(addresses) -> None:
    with pytest.raises(ConfigError):
        ControlPlaneAddress(addresses=addresses)


def test_a_scope_survives_json() -> None:
    scope = EnvoyScope(
        ports=(
            Port(address="0.0.0.0:80"),
            Port(address="[::1]:443", service="a", tls=TLS),
        ),
        services=("a", "b"),
    )
    assert EnvoyScope.from_json(json.loads(json.dumps(scope.to_json()))) == scope
    assert EnvoyScope.from_json(EnvoyScope().to_json()) == EnvoyScope()


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {"port": []},
        {"ports": {}},
        {"ports": ["127.0.0.1:1"]},
        {"ports": [{}]},
        {"ports": [{"address": 1}]},
        {"ports": [{"address": "localhost:1"}]},
        {"ports": [{"address": "127.0.0.1:1", "tls": {}}]},
        {"ports": [{"address": "127.0.0.1:1", "tls": {"cert": "c"}}]},
        {"ports": [{"address": "127.0.0.1:1", "tls": 1}]},
        {"services": "a"},
        {"services": [1]},
    ],
)
def test_a_scope_that_cannot_be_used(document) -> None:
    with pytest.raises(ConfigError):
        EnvoyScope.from_json(document)
