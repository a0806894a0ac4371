"""The auth token of a session, asked for once by all who need it."""

from __future__ import annotations

import asyncio
from operator import attrgetter
from typing import Final, final

import anyio
from aetcd import rpc

from meshkit.errors import RegistryError, RegistryUnavailable
from meshkit.registry.etcd.errors import AuthDisabled
from meshkit.registry.etcd.member import HAS_LEADER, Member, Metadata, Rpc

__all__ = ["Tokens"]

_AUTHENTICATE: Final[Rpc] = attrgetter("auth.Authenticate")

_TIMEOUT: Final = 10.0
"""Seconds. A thousand processes that ask at once keep a member busy for longer than any request."""

_END_TIMEOUT: Final = 1.0
"""Seconds."""


@final
class Tokens:
    """Asks each member for a token once at a time, however many wait for it, and for how long.

    To check a password costs a member some 60 ms of CPU, on purpose (bcrypt), which it spends also
    when the asker has given up: whoever gives up leaves the question to those who come next.

    Args:
        username: None if there are no credentials.
        password: goes with it.
    """

    def __init__(self, username: str | None, password: str | None) -> None:
        self._username = username
        self._password = password
        self._token: str | None = None  # empty: the cluster asks for none
        self._asking: dict[str, asyncio.Future[RegistryError | None]] = {}

    @property
    def renewable(self) -> bool:
        """Whether there are credentials to get a new token with."""
        return self._username is not None

    async def metadata(self, member: Member) -> Metadata:
        """What shows our token; asks `member` for one if there is none.

        Raises:
            RegistryAuthError: the credentials are wrong.
            RegistryUnavailable: it did not answer.
        """
        while self.renewable and self._token is None:
            asking = self._asking.get(member.endpoint)
            if asking is None:
                asking = asyncio.ensure_future(self._ask(member))
                self._asking[member.endpoint] = asking
            await asyncio.wait({asking})
            if asking.cancelled():
                raise RegistryUnavailable(f"etcd at {member.endpoint}: the connection is closed")
            if (refusal := asking.result()) is not None:
                raise type(refusal)(str(refusal))
        return (("token", self._token),) if self._token else ()

    def forget(self, refused: Metadata) -> None:
        """Let go of the token that was refused, unless there is a newer one."""
        if (self._token or None) == dict(refused).get("token"):
            self._token = None

    async def _ask(self, member: Member) -> RegistryError | None:
        request = rpc.AuthenticateRequest(name=self._username, password=self._password)
        member.enter()
        try:
            answer = await member.call(_AUTHENTICATE, request, (HAS_LEADER,), _TIMEOUT)
            self._token = str(answer.token)
        except AuthDisabled:
            self._token = ""
        except RegistryError as error:
            return type(error)(str(error))  # one that refers to no frames, and so to no connection
        finally:
            del self._asking[member.endpoint]
            await member.leave()
        return None

    async def aclose(self) -> None:
        """Ask no more, forget; bounded, and usable again afterwards."""
        asking = list(self._asking.values())
        for each in asking:
            each.cancel()
        if asking:
            with anyio.move_on_after(_END_TIMEOUT, shield=True):
                await asyncio.wait(asking)
        self._token = None
