"""Service configs in a registry: published, withdrawn, read. Watches bring them to the clients."""

from __future__ import annotations

from typing import Final, final

from meshkit.errors import ConfigError
from meshkit.registry.layouts import Layout
from meshkit.registry.layouts.reading import MAX_VALUE
from meshkit.registry.outage import bounded
from meshkit.registry.store import Store
from meshkit.service_config import ServiceConfig, ServiceConfigSource, document

__all__ = ["Configs"]

_PATIENCE: Final = 10.0  # seconds; stores are bounded themselves, this is the second belt


@final
class Configs:
    """The service configs that stand beside the endpoints of a store.

    Args:
        store: where they are.
        layout: where exactly.
        namespace: whose services these are.
    """

    def __init__(self, store: Store, layout: Layout, namespace: str) -> None:
        self._store = store
        self._layout = layout
        self._namespace = namespace

    async def publish(self, service: str, source: ServiceConfigSource) -> None:
        """Write the config of `service`, for all its clients.

        Raises:
            ConfigError: it cannot be used, or the layout has no place for it.
            RegistryUnavailable: the registry cannot be reached.
            RegistryAuthError: it refuses us.
        """
        key = self._key(service)
        value = document(source)
        if len(value) > MAX_VALUE:
            raise ConfigError(f"the service config has {len(value)} bytes, more than {MAX_VALUE}")
        with bounded(_PATIENCE):
            await self._store.put({key: value}, lease=0)

    async def withdraw(self, service: str) -> None:
        """Delete the config of `service`; none there is no error. Raises like `publish`."""
        key = self._key(service)
        with bounded(_PATIENCE):
            await self._store.delete([key])

    async def read(self, service: str) -> ServiceConfig | None:
        """The config that is published for `service` now; None if there is none.

        Raises:
            ConfigError: what is there cannot be used, or the layout has no place for it.
            RegistryUnavailable: the registry cannot be reached.
            RegistryAuthError: it refuses us.
        """
        key = self._key(service)
        with bounded(_PATIENCE):
            found = await self._store.read([key])
        values = [item.value for item in found if item.value is not None]
        return ServiceConfig.parse(values[0], unknown=[]) if values else None

    def _key(self, service: str) -> str:
        key = self._layout.config_key(self._namespace, service)
        if key is None:
            raise ConfigError("service configs can be published with layout=meshkit only")
        return key
