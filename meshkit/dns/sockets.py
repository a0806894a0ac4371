"""A UDP and a TCP socket with one port, and what takes packets from the first."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from contextlib import ExitStack
from typing import Final, Protocol, TypeAlias, final

from meshkit.errors import ConfigError

__all__ = ["Packets", "Source", "bind"]

_MAX_PORT: Final = 65535
_TRIES: Final = 10  # to find a port that is free for both

Source: TypeAlias = tuple[str, int] | tuple[str, int, int, int]


class Receive(Protocol):
    """Takes a packet, its sender, and the way back; must not block."""

    def __call__(self, packet: bytes, source: Source, back: Packets) -> None:
        """Take a packet."""
        ...


@final
class Packets(asyncio.DatagramProtocol):
    """Packets in and out. One that cannot be sent is lost, as any packet may be."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._is_full = False

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        """Note the socket."""
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Source) -> None:
        """Hand a packet on."""
        self._receive(data, addr, self)

    def pause_writing(self) -> None:
        """The network takes no more for now."""
        self._is_full = True

    def resume_writing(self) -> None:
        """It does again."""
        self._is_full = False

    def send(self, packet: bytes, to: Source) -> None:
        """Send a packet, if the network takes it."""
        if not self._is_full and not self._transport.is_closing():
            self._transport.sendto(packet, to)


def bind(host: str, port: int) -> tuple[socket.socket, socket.socket]:
    """A UDP and a TCP socket at one port of `host`; with port 0 at one that is free for both.

    Raises:
        ConfigError: it cannot be had.
    """
    try:
        version = ipaddress.ip_address(host).version
    except ValueError as error:
        raise ConfigError(f"cannot listen on {host!r}: it has to be an IP address") from error
    if not 0 <= port <= _MAX_PORT:
        raise ConfigError(f"a port is 0 to {_MAX_PORT}, got {port}")
    family = socket.AF_INET6 if version == 6 else socket.AF_INET
    tries = 1 if port else _TRIES
    while True:
        tries -= 1
        try:
            return _bound(family, host, port)
        except OSError as error:
            if not tries:
                raise ConfigError(
                    f"cannot listen on {host} port {port}: {error.strerror}"
                ) from error


def _bound(
    family: socket.AddressFamily, host: str, port: int
) -> tuple[socket.socket, socket.socket]:
    with ExitStack() as stack:
        udp = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
        tcp = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        tcp.bind((host, port))
        udp.bind(tcp.getsockname())
        stack.pop_all()
        return udp, tcp
