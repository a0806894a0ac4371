from tests.envoy.conftest import envoy_binary

__all__ = ["envoy_binary"]
