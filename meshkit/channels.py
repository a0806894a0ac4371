"""The channels of one mesh, each shared by all who ask for the same."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, NoReturn, TypeAlias, final

import anyio

from meshkit.client import Channel, ChannelOptions, ChannelStatus

__all__ = ["Channels"]

# Seconds for answers that are on their way, as from servers of ours that have just drained.
_FLUSH: Final = 0.5

Make: TypeAlias = Callable[[str, ChannelOptions], Channel]


@final
class Channels:
    """One channel for each service and options, closed when its last holder has left.

    Args:
        make: makes a channel.
    """

    def __init__(self, make: Make) -> None:
        self._make = make
        self._shared: dict[tuple[str, ChannelOptions], _Shared] = {}

    async def keep(self, service: str, options: ChannelOptions, warm_up: float) -> Channel:
        """The channel to `service`, held until `aclose`; warms up for `warm_up` seconds at most."""
        shared = self._share(service, options)
        shared.holders += 1
        await shared.channel.warm_up(warm_up)
        return shared.channel

    @asynccontextmanager
    async def borrow(
        self, service: str, options: ChannelOptions, warm_up: float
    ) -> AsyncIterator[Channel]:
        """The same, held for the length of the block."""
        shared = self._share(service, options)
        shared.holders += 1
        try:
            await shared.channel.warm_up(warm_up)
            yield shared.channel
        finally:
            shared.holders -= 1
            if not shared.holders:
                with anyio.CancelScope(shield=True):  # bounded: it waits for no call
                    await shared.channel.close()

    def _share(self, service: str, options: ChannelOptions) -> _Shared:
        known = self._shared.get((service, options))
        if known is not None and not known.channel.is_closed:
            return known
        # Here, and not when one is closed: users may close them, too.
        self._shared = {k: s for k, s in self._shared.items() if not s.channel.is_closed}
        made = self._shared[service, options] = _Shared(self._make(service, options))
        return made

    def status(self) -> tuple[ChannelStatus, ...]:
        """Each open channel."""
        channels = [shared.channel for shared in self._shared.values()]
        return tuple(channel.status() for channel in channels if not channel.is_closed)

    def disown(self, refuse: Callable[[], NoReturn]) -> None:
        """In a forked child: each call meets `refuse`."""
        for shared in self._shared.values():
            shared.channel.disown(refuse)

    async def aclose(self) -> None:
        """Close all of them, whoever holds them."""
        async with anyio.create_task_group() as closing:
            for shared in self._shared.values():
                closing.start_soon(shared.channel.close, _FLUSH)
        self._shared.clear()


@final
class _Shared:
    """A channel, and how many hold it."""

    __slots__ = ("channel", "holders")

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.holders = 0
