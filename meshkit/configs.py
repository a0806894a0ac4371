"""The service configs that a mesh has in its registry, for all clients."""

from __future__ import annotations

from typing import final

from meshkit.lifetime import Lifetime
from meshkit.service_config import ServiceConfig, ServiceConfigSource

__all__ = ["PublishedConfigs"]


@final
class PublishedConfigs:
    """Publishes the configs of services; clients apply them to running channels at once."""

    def __init__(self, lifetime: Lifetime) -> None:
        self._lifetime = lifetime

    async def publish(self, service: str, config: ServiceConfigSource, /) -> None:
        """Publish the config of `service`, in the place of the last one; it stays until `withdraw`.

        Args:
            service: the name the servers register.
            config: a `ServiceConfig`, JSON as a dict or a text, or the `Path` of a file of it.

        Raises:
            ConfigError: it cannot be used (the text begins with the place in the JSON), or this
                registry has no place for it.
            RegistryError: the registry cannot be reached, or refuses us.
        """
        running = await self._lifetime.open()
        await running.registry.configs.publish(service, config)

    async def withdraw(self, service: str, /) -> None:
        """Delete the config of `service`; without one, nothing happens.

        Raises:
            ConfigError: this registry has no place for one.
            RegistryError: the registry cannot be reached, or refuses us.
        """
        running = await self._lifetime.open()
        await running.registry.configs.withdraw(service)

    async def read(self, service: str, /) -> ServiceConfig | None:
        """The config that the registry has for `service` now; None: it has none.

        Raises:
            ConfigError: what is there cannot be used, or this registry has no place for one.
            RegistryError: the registry cannot be reached, or refuses us.
        """
        running = await self._lifetime.open()
        return await running.registry.configs.read(service)
